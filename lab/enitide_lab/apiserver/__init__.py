"""The embedded API server: the store's HTTP face, on as many sockets (and in as many network namespaces) as needed."""

from enitide_lab.apiserver.server import ApiServer
from enitide_lab.apiserver.sockets import listen_socket

__all__ = ["ApiServer", "listen_socket"]
