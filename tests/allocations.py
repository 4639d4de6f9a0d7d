"""What the allocator of the CPU gives out, as the profiler of torch records it."""

from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def most_allocated(function):
    """Most bytes that a function holds at a time of those that it allocates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = profiled.profiler.kineto_results.events()
    memory = sorted(
        ((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"),
        key=lambda each: each[0],
    )
    return max(accumulate(nbytes for _, nbytes in memory))
