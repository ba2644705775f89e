from lilliput.techniques import QuantizeAdaround, QuantizeGroups


def test_learned_rounding_loses_less_than_rounding_to_nearest(profile):
    gains = []
    for name in ("linear", "turned", "conv"):
        known, weight = profile.sites[name], profile.matrix(name)
        nearest = QuantizeGroups(bits=3, method="round").apply(profile, (name,))[name]
        learned = QuantizeAdaround(bits=3).apply(profile, (name,))[name]
        lost = [known.damage(weight, known.site.matrix(e.decode())) for e in (nearest, learned)]
        gains.append(lost[1] / lost[0])
    assert max(gains) < 0.8
