import torch

from milforge.functional import keyed_uniform

MASK = 2**64 - 1


def mixed(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_numbers_are_those_of_unsigned_integers():
    seeds, ptr = torch.tensor([5, 2**63 - 1]), torch.tensor([0, 2, 5])
    found = keyed_uniform(seeds, ptr, 5, 2)
    for b, size in enumerate((2, 3)):
        for n in range(size):
            for k in range(2):
                key = mixed(int(seeds[b])) + (n + 1) * 0x9E3779B97F4A7C15
                bits = mixed((key + k * 0xD1B54A32D192ED03) & MASK)
                assert float(found[int(ptr[b]) + n, k]) == (bits >> 11) / 2**53


def test_they_are_uniform_and_do_not_go_together():
    ptr = torch.tensor([0, 20_000])
    table = torch.cat([keyed_uniform(torch.tensor([s]), ptr, 20_000, 2) for s in (0, 1)], dim=1)
    assert (table >= 0).all()
    assert (table < 1).all()
    counts = torch.stack([torch.histc(each, 20, 0, 1) for each in table.unbind(1)])
    assert ((counts - 1000).abs() < 150).all()  # five standard deviations
    together = torch.corrcoef(table.T) - torch.eye(4)
    assert together.abs().max() < 0.035
    assert torch.corrcoef(torch.stack([table[1:, 0], table[:-1, 0]]))[0, 1].abs() < 0.035
