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


def test_augmentations_lists_the_table(call):
    from lilliput.learning.augmenting.policy import AUGMENTATIONS

    said = call("augmentations")
    assert said.status == 0
    for kind in AUGMENTATIONS:
        assert f"{kind.name} ({kind.form}): {kind.summary}" in said.out
    assert "padding = 4, [0, 256] pixels" in said.out
    listed = call("augmentations", "--json").document["augmentations"]
    assert listed == [kind.described() for kind in AUGMENTATIONS]


def test_techniques_lists_the_table(call):
    from lilliput.techniques import TABLE

    said = call("techniques")
    assert said.status == 0
    for kind in TABLE:
        assert f"{kind.name} ({kind.family}): {kind.summary}" in said.out
    assert "amount = 0.5, [0, 1) share removed" in said.out
    assert "pattern = any, one of any, 2:4, 4:8, 1x4, 4x1" in said.out
    listed = call("techniques", "--json").document["techniques"]
    assert [entry["name"] for entry in listed] == [kind.name for kind in TABLE]
    for entry, kind in zip(listed, TABLE, strict=True):
        assert entry.keys() == {"name", "family", "summary", "source", "fields"}
        assert entry["fields"].keys() == kind.model_fields.keys()
        for field in entry["fields"].values():
            assert "range" in field or "choices" in field or field["type"] in ("bool", "str")
            assert "unit" in field or field["type"] in ("bool", "str"), (entry["name"], field)
