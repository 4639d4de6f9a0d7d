"""Where code would wait for a device, found on the CPU: the tensors given count as on a device.

A GPU works behind the processor. Whatever needs a value of one of its tensors in the memory of the
machine, or a shape that depends on values, waits until it has done all that it was given.
"""

import traceback
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators that give a value to the processor, or a shape that depends on values.
_VALUES = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::unique_dim_consecutive",
}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
# Methods that read memory, on a CPU by no operator.
_READ = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}


@contextmanager
def found_waits(tensors):
    """Notes where the code of milforge below waits for one of these tensors, or what is made of it.

    Gives a set of `module.function`; `backward` stands for what autograd does by itself.
    """
    found = _Found()
    for each in tensors:
        found.add(each)
    with ExitStack() as stack:
        stack.enter_context(_Methods(found))
        stack.enter_context(_Operators(found))
        yield found.places


class _Found:
    def __init__(self):
        self.places = set()
        self._known, self._kept = set(), []

    def add(self, tensor):
        for part in _parts(tensor):
            self._kept.append(part)  # or other tensors would come to lie in its memory
            self._known.add(part.untyped_storage()._cdata)

    def __contains__(self, tensor):
        return any(part.untyped_storage()._cdata in self._known for part in _parts(tensor))

    def note(self):
        names = [
            f"{frame.filename.rpartition('/')[2].removesuffix('.py')}.{frame.name}"
            for frame in traceback.extract_stack()
            if "/milforge/" in frame.filename
        ]
        self.places.add(names[-1] if names else "backward")


class _Methods(TorchFunctionMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _READ and args[0] in self.found:
            self.found.note()
        # What is copied to a device from memory that may be moved is waited for, too.
        soon = kwargs.get("non_blocking", False)
        places = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.device)]
        copied = function is Tensor.to and args[0] not in self.found and not soon
        if places and (copied or function is torch.tensor):
            self.found.note()
        return function(*args, **kwargs)


class _Operators(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        on_device = any(each in self.found for each in given)
        if on_device and _waits(function._schema.name, args, kwargs):
            self.found.note()
        out = function(*args, **kwargs)
        if on_device:
            for each in tree_leaves(out):
                if isinstance(each, Tensor):
                    self.found.add(each)
        return out


def _waits(name, args, kwargs):
    if name in _INDEXED:
        masks = (torch.bool, torch.uint8)
        return any(each is not None and each.dtype in masks for each in args[1])
    return name in _VALUES and kwargs.get("output_size") is None


def _parts(tensor):
    if tensor.layout == torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor]
