"""Worlds for scenarios: namespaces x, y, z, each with pods a, b, c; two nodes, a host-network pod, a Service."""

_HEAD = """
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: one}}
status: {addresses: [{type: InternalIP, address: 172.16.0.1}, {type: Hostname, address: n1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {zone: two}}
status: {addresses: [{type: InternalIP, address: 172.16.0.2}]}
---
"""

_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {namespace}, labels: {{pod: {pod}}}}}
spec:
  nodeName: {node}
  containers:
  - name: c
    ports:
    - {{containerPort: 80, name: serve-80}}
    - {{containerPort: 81, name: serve-81, protocol: TCP}}
    - {{containerPort: 53, name: dns, protocol: UDP}}{more}
status: {{phase: Running, podIPs: [{{ip: {address}}}]}}
---
"""

_TAIL = """
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: x, labels: {pod: host}}
spec: {nodeName: n2, hostNetwork: true}
status: {phase: Running, podIPs: [{ip: 172.16.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: x, labels: {pod: done}}
spec: {nodeName: n1}
status: {phase: Succeeded, podIPs: [{ip: 10.0.1.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: x}
spec: {clusterIP: 172.20.0.10, selector: {pod: b}, ports: [{port: 80, name: http, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.0.1.2], conditions: {ready: true}}
- {addresses: [10.0.3.3], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: y}
spec: {clusterIP: 172.20.0.11, selector: {pod: nobody}, ports: [{port: 80}]}
---
"""


def _xyz():
    parts = [_HEAD]
    for n, namespace in enumerate("xyz", 1):
        parts.append(
            f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{ns: {namespace}}}}}\n---\n"
        )
        for p, pod in enumerate("abc", 1):
            more = f"\n    - {{containerPort: 800{p}, name: web}}" if namespace == "y" and pod != "c" else ""
            node = "n1" if pod == "a" else "n2"
            parts.append(_POD.format(pod=pod, namespace=namespace, node=node, more=more, address=f"10.0.{n}.{p}"))
    return "".join([*parts, _TAIL])


XYZ = _xyz()


def houses():
    """Four namespaces of two replicas each that serve TCP 80 and 8080, UDP 53 and 5353, SCTP 9003 and 9005."""
    parts = [
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: n{i}, labels: {{role: {role}}}}}\n"
        f"status: {{addresses: [{{type: InternalIP, address: 172.16.0.{i}}}]}}\n---\n"
        for i, role in ((1, "edge"), (2, "inner"))
    ]
    for n, house in enumerate(("red", "green", "blue", "grey"), 1):
        parts.append(
            f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: house-{house}, labels: {{house: {house}}}}}\n---\n"
        )
        for replica in range(2):
            parts.append(
                _HOUSE.format(house=house, replica=replica, node=f"n{replica + 1}", address=f"10.1.{n}.{replica + 1}")
            )
    parts.append(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: forest-0, namespace: house-grey, labels: {house: forest}}\n"
        "spec: {nodeName: n2, hostNetwork: true}\nstatus: {phase: Running, podIPs: [{ip: 172.16.0.2}]}\n---\n"
    )
    return "".join(parts)


_HOUSE = """
apiVersion: v1
kind: Pod
metadata:
  name: {house}-{replica}
  namespace: house-{house}
  labels: {{house: {house}, statefulset.kubernetes.io/pod-name: "{house}-{replica}"}}
spec:
  nodeName: {node}
  containers:
  - name: servers
    ports:
    - {{containerPort: 80, name: web}}
    - {{containerPort: 8080, name: web-alt}}
    - {{containerPort: 53, name: dns, protocol: UDP}}
    - {{containerPort: 5353, name: dns-alt, protocol: UDP}}
    - {{containerPort: 9003, name: diameter, protocol: SCTP}}
    - {{containerPort: 9005, name: netperf, protocol: SCTP}}
status: {{phase: Running, podIPs: [{{ip: {address}}}]}}
---
"""
HOUSES = houses()
