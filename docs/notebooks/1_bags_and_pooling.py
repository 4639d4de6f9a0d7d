# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Bags and pooling by hand
#
# A bag is a table of instances with one label. Bags differ in size, so a batch is one long table and a
# pointer: bag `b` is `x[ptr[b]:ptr[b + 1]]`.

# %%
import torch

from milforge.data import Bag, collate_bags
from milforge.nn import AttentionPool

torch.manual_seed(0)
bags = [Bag(torch.randn(n, 8), y=n % 2, bag_id=f"slide {n}") for n in (3, 5, 1200)]
batch = collate_bags(bags)
print(tuple(batch.x.shape), batch.ptr.tolist())

# %% [markdown]
# Attention pooling gives each instance a score, makes weights of the scores by a softmax within the bag, and
# sums the instances by these weights. First by hand, for one bag:

# %%
pool = AttentionPool(in_dim=8, att_dim=16)
z, scores = pool(batch.x, ptr=batch.ptr, return_att=True)
first = slice(0, 3)
weights = torch.softmax(scores[first], dim=0)
by_hand = weights @ batch.x[first]
print((by_hand - z[0]).abs().max().item())
assert torch.allclose(by_hand, z[0], atol=1e-5)

# %% [markdown]
# What a bag gives does not depend on the bags beside it, and padded bags give the same as packed ones:

# %%
alone = collate_bags(bags[1:2])
padded, mask, _ = batch.padded()
assert torch.allclose(pool(alone.x, ptr=alone.ptr)[0], z[1], atol=1e-5)
assert torch.allclose(pool(padded, mask), z, atol=1e-5)
print(f"{mask.numel()} rows padded, {len(batch.x)} packed")

# %% [markdown]
# Neighbouring patches tend to be alike. `Sm` smooths over the graph of the instances: what it leaves varies less
# from neighbour to neighbour, and `alpha` says how much less.

# %%
from milforge.functional import relative_dirichlet_energy
from milforge.graph import build_adjacency
from milforge.nn import Sm

coords = torch.cartesian_prod(torch.arange(20), torch.arange(20))
adj = build_adjacency(coords, method="grid")
noise, ptr = torch.randn(400, 1), torch.tensor([0, 400])
energies = []
for alpha in (0.1, 0.5, 0.9):
    smooth = Sm(alpha=alpha, num_steps=50)(noise, adj)
    energies.append(float(relative_dirichlet_energy(smooth, adj, ptr)))
    print(f"alpha {alpha}: energy {energies[-1]:.3f}")
assert energies == sorted(energies, reverse=True)
