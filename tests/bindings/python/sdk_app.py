"""What the steps share: the app, its listeners and callbacks, and checks."""

import os
import queue

import testpeer
import tuntrail_ffi as sdk
from testpeer import TrafficKind

WINDOWS, FLOWS, SESSIONS, SOCKETS, DIAGNOSTICS = (
    f"{kind}.log.test.example" for kind in ("windows", "flows", "sessions", "sockets", "diagnostics")
)
PATIENCE = 30  # seconds; only a failing test waits so long


def throws(kind, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"expected {kind}")


def equal(expected, actual):
    assert expected == actual, f"expected {expected!r}, got {actual!r}"


def config(directory, server, /, **more):
    names = sdk.Collections(
        windows=WINDOWS, flows=FLOWS, sessions=SESSIONS, sockets=SOCKETS, diagnostics=DIAGNOSTICS
    )
    return sdk.ClientConfig(
        **{"directory": directory, "base_url": server.url(), "consent": sdk.Consent.GRANTED, "collections": names} | more
    )


def rule(resource, prefix, port):
    return sdk.ResourceRule(
        resource=resource, prefixes=[prefix], ports=[sdk.PortRange(first=port, last=port)], protocol=6
    )


class Recorder(sdk.EventListener):
    """Keeps what happened, and on which thread."""

    def __init__(self):
        self.events = queue.Queue()

    def on_event(self, event):
        self.events.put((event, testpeer.native_thread_name()))

    def wait_for(self, wanted):
        while True:
            event, thread = self.events.get(timeout=PATIENCE)
            equal("tuntrail-events", thread)
            if wanted(event):
                return event


class Protector(sdk.SocketProtector):
    """Stands for VpnService.protect."""

    def __init__(self):
        self.calls = queue.Queue()

    def protect(self, socket):
        self.calls.put((socket, testpeer.native_thread_name()))
        return True


class Resolver(sdk.HostResolver):
    """Knows one name."""

    def resolve(self, host):
        equal("vpn.example.com", host)
        return ["127.0.0.1"]


class App:
    """What the steps share."""

    def __init__(self, directory):
        self.directory = directory
        self.server = testpeer.LogServer.start()
        self.network = testpeer.VirtualNetwork()
        self.recorder, self.protector = Recorder(), Protector()
        self.client = None

    def path(self, name):
        return os.path.join(self.directory, name)

    def files(self, name):
        return [os.path.join(folder, file) for folder, _, files in os.walk(self.path(name)) for file in files]

    def tunnel_config(self):
        return sdk.parse_tunnel_config(self.network.tunnel_config())

    def start_tunnel(self, client, protector=None, resolver=None):
        device = sdk.TunDevice.TUN(self.network.attach())
        client.set_network(network_map(), sdk.Routes(local=["100.64.0.1"], remote=["100.64.0.0/10", "10.20.0.0/16"]))
        return client.start_tunnel(self.tunnel_config(), device, protector, resolver)

    def forget_protected(self):
        while not self.protector.calls.empty():
            self.protector.calls.get()

    def upload(self, client=None):
        report = (client or self.client).upload("scenario").join()
        assert report.complete, report.summary
        return report

    def recorded(self, flow):
        """What the server knows of a connection, over all windows."""
        rows = [row for row in self.server.flows(WINDOWS) if (row.source, row.destination) == (flow.source, flow.destination)]
        return sums(rows)

    def exit_rows(self):
        return [row for row in self.server.flows(WINDOWS) if row.kind == TrafficKind.EXIT]


def sums(rows):
    return tuple(
        sum(getattr(row, count) for row in rows) for count in ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
    )


def network_map():
    own = sdk.Node(id=1, stable_id="n1", name="phone.example.com.", addresses=["100.64.0.1", "fd7a:115c:a1e0::1"], user=9)
    peer = sdk.Node(id=2, stable_id="n2", name="office.example.com.", addresses=["100.64.0.2", "fd7a:115c:a1e0::2"])
    return sdk.NetworkMap(self_node=own, peers=[peer], users=[sdk.User(id=9, login="user@example.com")])


class Throwing(sdk.EventListener, sdk.SocketProtector, sdk.HostResolver):
    """Fails in ways that are declared and in ways that are not."""

    def __init__(self, error=None):
        self.error, self.calls = error, queue.Queue()

    def fail(self, *_):
        self.calls.put(None)
        if self.error:
            raise self.error
        return False

    on_event = protect = resolve = fail
