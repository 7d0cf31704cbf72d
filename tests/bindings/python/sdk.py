"""The SDK from begin to end in Python: the steps of SDK_STEPS in tests/bindings/src/lib.rs.

An app with a VPN does what is done here, in about this order. Prints "ok NAME" for each step that holds; any other ends
the program. The one argument is an empty directory.
"""

import gc
import http.client
import os
import queue
import socket
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import testpeer
import tuntrail_ffi as sdk
from testpeer import Place, TrafficKind

WINDOWS, FLOWS, SESSIONS, SOCKETS = (f"{kind}.log.test.example" for kind in ("windows", "flows", "sessions", "sockets"))
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
    names = sdk.Collections(windows=WINDOWS, flows=FLOWS, sessions=SESSIONS, sockets=SOCKETS)
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
        client.set_network(network_map(), sdk.Routes(local=["100.64.0.1"], routes=["100.64.0.0/10", "10.20.0.0/16"]))
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


def configuration(app):
    directory = app.path("refused")
    window = sdk.FlowSettings(window=timedelta(milliseconds=10))
    for wrong in (
        {"base_url": "ftp://nowhere"}, {"directory": ""}, {"log_filter": "loud"}, {"flows": window},
        {"private_id": "secret"}, {"sessions": sdk.SessionSettings(rules=[rule(1, "100.64.0.999", 1)])},
    ):  # fmt: skip
        reason = throws(sdk.TuntrailError.Config, sdk.Client, config(directory, app.server, **wrong))
        assert reason and "secret" not in reason, reason
    file = app.network.tunnel_config()
    reason = throws(sdk.TuntrailError.Config, sdk.parse_tunnel_config, file.replace("PrivateKey = ", "PrivateKey = x"))
    assert "line 2" in reason and app.tunnel_config().private_key not in reason, reason
    equal(44, len(sdk.public_key_of(sdk.generate_private_key())))
    undecided = sdk.Client(config(directory, app.server, consent=sdk.Consent.UNKNOWN))
    equal(None, undecided.log_id())
    throws(sdk.TuntrailError.NoConsent, undecided.upload, "scenario")
    undecided.shutdown()
    equal([], app.files("refused"))


def tunnel(app):
    flows = sdk.FlowSettings(events=True)
    sessions = sdk.SessionSettings(rules=[rule(7, "100.64.0.2/32", 443)])
    app.client = sdk.Client(config(app.path("records"), app.server, flows=flows, sessions=sessions, log_filter="debug"))
    app.client.set_listener(app.recorder)
    app.client.set_network(network_map(), sdk.Routes(local=["100.64.0.1"], routes=["100.64.0.0/10", "10.20.0.0/16"]))
    named = app.tunnel_config()
    peer = named.peers[0]
    peer.endpoint = peer.endpoint.replace("127.0.0.1", "vpn.example.com")
    device = sdk.TunDevice.TUN(app.network.attach())
    info = app.client.start_tunnel(named, device, app.protector, Resolver())
    assert info.local_v4 and info.adapter_luid is None, info
    number, thread = app.protector.calls.get(timeout=PATIENCE)
    assert number > 2, number
    equal(testpeer.native_thread_name(), thread)

    flow = app.network.exchange(Place.NODE, 20_000, 60_000)
    app.recorder.wait_for(lambda event: event.is_PEER_CONNECTED() and event.public_key == peer.public_key)
    stats = app.client.stats().tunnel
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes),
          (stats.tx_packets, stats.tx_bytes, stats.rx_packets, stats.rx_bytes))  # fmt: skip
    equal(peer.public_key, stats.peers[0].public_key)
    throws(sdk.TuntrailError.Tunnel, app.start_tunnel, app.client)
    # That try has replaced the programs of the device.
    app.client.stop_tunnel()
    app.start_tunnel(app.client, app.protector)
    app.forget_protected()


def upload(app):
    flows = [app.network.exchange(place, 30_000, 40_000) for place in (Place.NODE_V6, Place.SUBNET)]
    exit_flow = app.network.exchange(Place.INTERNET, 1_000, 2_000)
    asked = app.client.upload("scenario")
    report = asked.join()
    assert report.complete and report.outcome.is_COMPLETE() and report.remaining_records == 0, report.summary
    last = app.recorder.wait_for(
        lambda event: event.is_UPLOAD_PROGRESS() and event.progress.sent_records == event.progress.total_records
    )
    equal((asked.id(), report.sent_bytes), (last.upload, last.progress.sent_bytes))
    ended = app.recorder.wait_for(lambda event: event.is_UPLOAD_ENDED())
    equal(report, ended.report)
    equal(report, asked.report())
    for flow in flows:
        equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    kinds = {row.kind for row in app.server.flows(WINDOWS)}
    equal({TrafficKind.VIRTUAL, TrafficKind.SUBNET, TrafficKind.EXIT, TrafficKind.PHYSICAL}, kinds)
    equal((exit_flow.tx_packets, exit_flow.tx_bytes, exit_flow.rx_packets, exit_flow.rx_bytes), sums(app.exit_rows()))
    text = "".join(app.server.entries(WINDOWS))
    for name in ("phone.example.com", "office.example.com", "user@example.com"):
        assert name in text, name
    opened = [entry for entry in app.server.entries(FLOWS) if '"event":"open"' in entry and '"10.20.0.5:22"' in entry]
    equal(1, len(opened))


def exit_flows(app):
    # So far there were only sums.
    for row in app.exit_rows():
        equal((0, "100.64.0.1:0", None), (row.protocol, row.source, row.destination))
    assert "203.0.113.7" not in "".join(app.server.entries(WINDOWS))
    app.client.set_exit_flows(sdk.ExitFlows.FULL)
    app.client.flush()
    flow = app.network.exchange(Place.INTERNET, 1_000, 2_000)
    app.upload()
    equal("203.0.113.7:443", flow.destination)
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    app.client.set_exit_flows(sdk.ExitFlows.OFF)
    before = len(app.exit_rows())
    flow = app.network.exchange(Place.INTERNET, 1_000, 2_000)
    app.upload()
    equal(before, len(app.exit_rows()))
    withheld = app.client.stats().flows.withheld
    equal((flow.tx_bytes, flow.rx_bytes), (withheld.tx_bytes, withheld.rx_bytes))
    app.client.set_exit_flows(sdk.ExitFlows.AGGREGATED)


def sessions(app):
    # A session is recorded when it is over, and with the tunnel all are.
    app.client.stop_tunnel()
    app.upload()
    equal({7}, set(app.server.numbers(SESSIONS, "resourceId")))
    before = len(app.server.entries(SESSIONS))
    app.start_tunnel(app.client, app.protector)
    app.client.set_session_rules([rule(8, "10.20.0.0/16", 22)])
    flow = app.network.exchange(Place.SUBNET, 16, 5_000)
    app.network.exchange(Place.NODE, 16, 5_000)
    app.client.stop_tunnel()
    app.upload()
    new = app.server.entries(SESSIONS)[before:]
    assert len(new) == 1 and '"resourceId":8' in new[0] and f'"destAddr":"{flow.destination}"' in new[0], new
    # Of sessions the content counts.
    assert '"bytesTx":16,' in new[0] and '"bytesRx":5000' in new[0], new
    app.start_tunnel(app.client, app.protector)
    app.forget_protected()


def socket_statistics(app):
    throws(sdk.TuntrailError.Config, app.client.socket_counter, 3)
    app.client.enable_socket_stats(timedelta(hours=1))
    counter = app.client.socket_counter(64)
    counter.add(1_000, 2_000)
    counter.add(1, 2)
    address = urlsplit(app.server.url())
    with socket.create_connection((address.hostname, address.port)) as own:
        registered = app.client.register_socket(own.fileno(), 65)
        request = b"GET /collections HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        own.sendall(request)
        received = 0
        while part := own.recv(65_536):
            received += len(part)
        registered.unregister()
    throws(sdk.TuntrailError.Config, app.client.register_socket, -1, 65)
    asked = app.client.upload("scenario", [sdk.Stream.SOCKETS])
    assert asked.join().complete
    equal((1_001, 2_002), both(app.server.numbers(SOCKETS, "64")))
    equal((len(request), received), both(app.server.numbers(SOCKETS, "65")))
    app.client.disable_socket_stats()
    counter.add(5, 5)
    app.upload()
    equal((1_001, 2_002), both(app.server.numbers(SOCKETS, "64")))


def both(numbers):
    return sum(numbers[::2]), sum(numbers[1::2])


def network_change(app):
    app.client.set_power_state(sdk.PowerState(battery_percent=50))
    throws(sdk.TuntrailError.Config, app.client.set_power_state, sdk.PowerState(battery_percent=101))
    app.client.set_network_state(sdk.NetworkState(connected=True, id=1, interface=sdk.InterfaceKind.WIFI))
    assert app.protector.calls.empty()
    app.client.set_network_state(sdk.NetworkState(connected=True, id=2, interface=sdk.InterfaceKind.CELLULAR))
    _, thread = app.protector.calls.get(timeout=PATIENCE)
    equal("tuntrail-tunnel", thread)
    app.network.exchange(Place.NODE, 16, 100)


def cancelled_upload(app):
    app.server.stall()
    flow = app.network.exchange(Place.NODE, 5_000, 5_000)
    asked = app.client.upload("scenario")
    app.server.wait_until_stalled()
    equal(None, asked.report())
    asked.cancel()
    report = asked.join()
    assert report.outcome.is_CANCELLED() and not report.complete and report.remaining_records > 0, report.summary
    equal((0, 0, 0, 0), app.recorded(flow))
    app.server.go_on()
    app.upload()
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    equal(0, app.server.duplicates())


def held_up_upload(app):
    flow = app.network.exchange(Place.NODE, 6_000, 6_000)
    app.server.refuse_next(403)
    outcome = app.client.upload("scenario").join().outcome
    assert outcome.is_UNAUTHORIZED() and outcome.status == 403 and "on purpose" in outcome.detail, outcome
    app.client.pause_uploads()
    before = app.server.uploads()
    asked = app.client.upload("scenario")
    assert app.client.stats().uploads.paused
    equal(None, asked.report())
    equal(before, app.server.uploads())
    app.client.resume_uploads()
    assert asked.join().complete
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))


def consent(app):
    name, uploads = app.client.log_id(), app.server.uploads()
    kept = app.network.exchange(Place.NODE, 7_000, 7_000)
    app.client.flush()
    app.client.set_consent(sdk.Consent.DENIED)
    # Only the denial itself is left.
    equal({"CONSENT"}, {os.path.basename(file)[:7] for file in app.files("records")})
    throws(sdk.TuntrailError.NoConsent, app.client.upload, "scenario")
    equal(None, app.client.log_id())
    denied = app.network.exchange(Place.NODE, 8_000, 8_000)
    app.client.set_consent(sdk.Consent.GRANTED)
    assert app.client.log_id() not in (None, name)
    flow = app.network.exchange(Place.NODE, 9_000, 9_000)
    equal(uploads, app.server.uploads())
    app.upload()
    equal((0, 0, 0, 0), app.recorded(kept))
    equal((0, 0, 0, 0), app.recorded(denied))
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))


def export_and_clear(app):
    flow = app.network.exchange(Place.NODE, 1_000, 1_000)
    report = app.client.export(app.path("export.tar.zst"))
    equal(os.path.getsize(app.path("export.tar.zst")), report.bytes)
    assert report.records > 0 and report.log_files > 0 and report.unreadable == 0, report
    throws(sdk.TuntrailError.Storage, app.client.export, app.path("no/such/folder/export.tar.zst"))
    app.client.clear()
    assert app.client.upload("scenario").join().outcome.is_NOTHING_TO_SEND()
    equal((0, 0, 0, 0), app.recorded(flow))


def log(app):
    before = app.client.stats().log.lines
    app.client.set_network(network_map(), sdk.Routes())
    assert app.client.stats().log.lines > before
    throws(sdk.TuntrailError.Config, app.client.set_log_filter, "loud")
    app.client.set_log_filter("off")
    before = app.client.stats().log.lines
    app.client.set_network(network_map(), sdk.Routes())
    equal(before, app.client.stats().log.lines)


def device_end(app):
    app.network.unplug()
    app.recorder.wait_for(lambda event: event.is_TUNNEL_DEVICE_ENDED())
    assert app.client.stats().tunnel.device_ended
    app.client.stop_tunnel()


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


def failing_callbacks(app):
    declared, other = sdk.CallbackError.Failed("on purpose"), RuntimeError("on purpose")
    failed, listeners = app.client.stats().events.failed, []
    for error in (declared, other):
        listener = Throwing(error)
        app.client.set_listener(listener)
        app.upload()
        listener.calls.get(timeout=PATIENCE)
        listeners.append(listener)
    app.client.set_listener(app.recorder)
    app.upload()
    app.recorder.wait_for(lambda event: event.is_UPLOAD_ENDED())
    equal(failed + sum(1 + listener.calls.qsize() for listener in listeners), app.client.stats().events.failed)

    before = testpeer.open_descriptors()
    for protector in (Throwing(), Throwing(declared), Throwing(other)):
        throws(sdk.TuntrailError.Tunnel, app.start_tunnel, app.client, protector)
    named = app.tunnel_config()
    named.peers[0].endpoint = "vpn.example.com:51820"
    for resolver in (Throwing(declared), Throwing(other)):
        device = sdk.TunDevice.TUN(app.network.attach())
        throws(sdk.TuntrailError.Tunnel, app.client.start_tunnel, named, device, None, resolver)
    app.network.unplug()
    equal(before, testpeer.open_descriptors())


def closing(app):
    client = app.client
    client.shutdown()
    client.shutdown()
    device = sdk.TunDevice.TUN(app.network.attach())
    state = sdk.NetworkState(connected=True)
    for call, arguments in (
        (client.set_consent, [sdk.Consent.DENIED]), (client.set_listener, [None]), (client.stop_tunnel, []),
        (client.start_tunnel, [app.tunnel_config(), device, None, None]), (client.refresh_tunnel, []),
        (client.set_network, [network_map(), sdk.Routes()]), (client.set_exit_flows, [sdk.ExitFlows.OFF]),
        (client.set_session_rules, [[]]), (client.set_network_state, [state]), (client.pause_uploads, []),
        (client.set_power_state, [sdk.PowerState()]), (client.upload, ["scenario"]), (client.resume_uploads, []),
        (client.next_upload_task, []), (client.claim, [sdk.Role.APP]), (client.disable_socket_stats, []),
        (client.socket_counter, [64]), (client.flush, []), (client.export, [app.path("late.tar.zst")]),
        (client.clear, []), (client.log_id, []), (client.stats, []), (client.set_log_filter, ["info"]),
    ):  # fmt: skip
        throws(sdk.TuntrailError.Closed, call, *arguments)


def host_transport(app):
    uploads = sdk.UploadSettings(host_transport=True, headers=[sdk.Header(name="x-app", value="scenario")])
    client = sdk.Client(config(app.path("background"), app.server, uploads=uploads))
    recorder = Recorder()
    client.set_listener(recorder)
    app.start_tunnel(client)
    flow = app.network.exchange(Place.NODE, 3_000, 3_000)
    asked = client.upload("scenario")
    recorder.wait_for(lambda event: event.is_UPLOAD_WORK_WAITING())
    throws(sdk.TuntrailError.Config, client.complete_upload_task, 12_345, sdk.UploadTaskResult.FAILED("on purpose"))
    while not (task := client.next_upload_task()).is_DONE():
        assert task.is_SEND(), task
        client.complete_upload_task(task.id, send(task))
    assert asked.join().complete
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    # For the step "claim".
    app.flow = app.network.exchange(Place.NODE, 4_000, 4_000)
    client.shutdown()


def send(task):
    """What the app's own HTTP makes of a task."""
    url = urlsplit(task.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        path = f"{url.path}?{url.query}" if url.query else url.path
        headers = {header.name: header.value for header in task.headers}
        equal("scenario", headers["x-app"])
        connection.request("POST", path, task.body, headers)
        answer = connection.getresponse()
        return sdk.UploadTaskResult.ANSWERED(answer.status, answer.getheader("Retry-After"), answer.read(1024))
    finally:
        connection.close()


def claim(app):
    client = sdk.Client(config(app.path("background"), app.server, role=sdk.Role.APP))
    assert client.upload("scenario").join().outcome.is_NOTHING_TO_SEND()
    assert client.claim(sdk.Role.EXTENSION) > 0
    app.upload(client)
    flow = app.flow
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    client.shutdown()


def thousand_clients(app):
    for _ in range(100):
        one_client(app)
    testpeer.wait_for_threads_named("tuntrail-events", 0)
    gc.collect()
    memory, descriptors, threads = testpeer.resident_bytes(), testpeer.open_descriptors(), testpeer.threads_named("tuntrail")
    for _ in range(1_000):
        one_client(app)
    testpeer.wait_for_threads_named("tuntrail", threads)
    gc.collect()
    growth = testpeer.resident_bytes() - memory
    # 8 KiB for each: less than the smallest of the buffers that a client has. Python's own heap breathes by some 100 KiB.
    assert growth < 8 << 20, growth
    equal(descriptors, testpeer.open_descriptors())
    print("growth", growth >> 10, "KiB", file=sys.stderr)


def one_client(app):
    client = sdk.Client(config(app.path("cycle"), app.server))
    client.set_listener(Recorder())
    app.start_tunnel(client, app.protector)
    client.shutdown()


def main():
    app = App(sys.argv[1])
    for step in (
        configuration, tunnel, upload, exit_flows, sessions, socket_statistics, network_change, cancelled_upload,
        held_up_upload, consent, export_and_clear, log, device_end, failing_callbacks, closing, host_transport, claim,
        thousand_clients,
    ):  # fmt: skip
        step(app)
        print("ok", step.__name__.replace("_", " "), flush=True)
    app.server.stop()


main()
