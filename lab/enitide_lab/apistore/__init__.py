"""The one API store: Kubernetes' conventions over objects in memory, with a Python face and an HTTP face.

`Store` is synchronous and takes clock, uid source and random source from outside, so a simulator can drive it under a
virtual clock; `StoreKube` is its Python face and implements `KubePort`; `enitide_lab.apiserver` is the HTTP face.
"""

from enitide_lab.apistore.faults import Fault, Faults
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store

__all__ = ["Fault", "Faults", "Store", "StoreKube"]
