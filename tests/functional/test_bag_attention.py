import torch
from torch.testing import assert_close

import reference
from milforge.functional import bag_attention


def test_each_query_looks_at_the_keys_of_its_bag():
    (q, q_ptr), (k, k_ptr) = reference.make_bags((2, 1, 3), 8), reference.make_bags((4, 0, 5), 8, 1)
    v = torch.flip(k, (0,)) + 1
    heads = [each.reshape(len(each), 2, 4) for each in (q, k, v)]
    found = bag_attention(*heads, q_ptr, k_ptr)
    for b in range(3):
        for i in range(int(q_ptr[b]), int(q_ptr[b + 1])):
            for h in range(2):
                rows = range(int(k_ptr[b]), int(k_ptr[b + 1]))
                exps = [(heads[0][i, h] @ heads[1][j, h] / 2).exp() for j in rows]
                expected = torch.zeros(4).double()
                for e, j in zip(exps, rows, strict=True):
                    expected += e / sum(exps) * heads[2][j, h]
                assert_close(found[i, h], expected)
