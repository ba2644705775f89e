from lilliput.environment import diagnosis


def test_inspect_says_what_comes_next(call, here):
    said = call("inspect", "net.pt")
    assert said.status == 0 and said.out.startswith("state dict: ")
    assert "next: lilliput compress NET.py:CLASS --weights net.pt" in said.out
    document = call("inspect", "points.npz", "--json").document
    assert document["kind"] == "arrays" and document["next_command"].startswith("lilliput ")
    (here / "strange").write_bytes(b"\x00\x01")
    said = call("inspect", "strange")
    assert (said.status, "next:" in said.out) == (0, False)


def test_doctor(call):
    said = call("doctor")
    assert said.status == 0
    for word in ("avx2: ", "runtimes", "onnxruntime: ", "int8: "):
        assert word in said.out
    assert call("doctor", "--json").document.keys() == diagnosis().keys()
