"""Every error and warning that the package raises on purpose.

One tree, so that ``except CaskadeException`` catches all of them. The names up to `FillParamsMappingError` and the
warnings are those of the public package ``caskade``; the rest belongs to plates and Pyro models.
"""

from __future__ import annotations

__all__ = [
    "ActiveStateError",
    "BackendError",
    "CaskadeException",
    "CaskadeWarning",
    "CollectionError",
    "CompilationError",
    "ConvergenceWarning",
    "FillParamsArrayError",
    "FillParamsError",
    "FillParamsMappingError",
    "FillParamsSequenceError",
    "GraphError",
    "IncompleteResultWarning",
    "InvalidValueWarning",
    "LinkToAttributeError",
    "MissingDependencyError",
    "MissingPriorError",
    "ModelError",
    "NewMemberWarning",
    "NodeConfigurationError",
    "NotBatchableError",
    "NotLinkedError",
    "ObservationError",
    "ParamConfigurationError",
    "ParamIndexError",
    "ParamTypeError",
    "PerformanceWarning",
    "PlateError",
    "PrecisionWarning",
    "PriorError",
    "SamplingError",
    "SaveStateWarning",
    "StateFileError",
    "StateFormatError",
    "StateMismatchError",
]


class CaskadeException(Exception):
    """Base of every error that this package raises on purpose."""


class GraphError(CaskadeException):
    """The graph cannot be what was asked for: a cycle, a key taken twice, an edit during a call."""


class LinkToAttributeError(GraphError):
    """A link was asked for under a name that is already an ordinary attribute."""


class NotLinkedError(GraphError, AttributeError, KeyError):
    """Something was to be unlinked or looked up that is not linked."""

    # KeyError shows the repr of its argument; these messages are sentences.
    __str__ = Exception.__str__


class PlateError(GraphError):
    """The batch dims of the params under a hierarchical link do not describe a plate."""


class CollectionError(GraphError, TypeError):
    """A collection of nodes was given something that it cannot hold, or was to change although it cannot."""


class StateFileError(GraphError, OSError):
    """A file does not hold the states that were asked for, or cannot take a further one."""


class StateFormatError(StateFileError, NotImplementedError):
    """The name of a file says that it has another format than HDF5."""


class StateMismatchError(StateFileError):
    """A file holds the state of another graph than the one at hand."""


class BackendError(CaskadeException):
    """An array backend other than torch was asked for."""


class NodeConfigurationError(CaskadeException):
    """A node was given a name or setting that it cannot have."""


class ParamConfigurationError(NodeConfigurationError, ValueError):
    """A param was given a shape, value or valid range that does not fit."""


class ParamIndexError(CaskadeException, IndexError):
    """A param was asked for at an index where there is none."""


class ParamTypeError(CaskadeException, TypeError):
    """A param was given something of the wrong kind."""


class ActiveStateError(CaskadeException):
    """Something was asked for during a call that is only possible outside one, or the other way round."""


class FillParamsError(CaskadeException):
    """The params given to a call cannot be matched with the dynamic params of the module."""


class FillParamsArrayError(FillParamsError):
    """A tensor of params has the wrong length."""


class FillParamsSequenceError(FillParamsError):
    """A list of params has the wrong length."""


class FillParamsMappingError(FillParamsError):
    """A dict of params names something that is not there."""


class ModelError(CaskadeException):
    """A simulator cannot be turned into the Pyro model that was asked for."""


class NotBatchableError(ModelError):
    """A distribution cannot be given further batch dims, because it cannot be taken apart into its parameters."""


class PriorError(ModelError, ValueError):
    """A prior does not fit its param: its shape, its support or the plates of its parents; or it cannot be built."""


class MissingPriorError(PriorError):
    """Dynamic params have neither a prior nor bounds to make one of."""


class ObservationError(ModelError):
    """Data do not fit the distribution that is to explain them."""


class SamplingError(CaskadeException):
    """An inference run could not start or broke off."""


class CompilationError(CaskadeException):
    """A density cannot be compiled on this machine; the traced one computes the same."""


class MissingDependencyError(CaskadeException, ImportError):
    """An optional package is needed and not installed."""


class CaskadeWarning(UserWarning):
    """Base of every warning that this package gives."""


class InvalidValueWarning(CaskadeWarning):
    """A value lies outside the valid range of its param."""


class IncompleteResultWarning(CaskadeWarning):
    """A part of a result could not be made; what there is of it is returned."""


class ConvergenceWarning(CaskadeWarning):
    """Draws should not be trusted as they are."""


class NewMemberWarning(CaskadeWarning):
    """A prediction is made with params from the population, for members that the posterior does not know, or does."""


class PerformanceWarning(CaskadeWarning):
    """Something runs slower than it could."""


class PrecisionWarning(CaskadeWarning):
    """Single precision is too coarse for data, a prior or a posterior."""


class SaveStateWarning(CaskadeWarning):
    """Part of a state could not be saved."""
