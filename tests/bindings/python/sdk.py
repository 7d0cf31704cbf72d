"""The SDK from begin to end in Python: the steps of SDK_STEPS in tests/bindings/src/lib.rs.

An app with a VPN does what is done here, in about this order. Prints "ok NAME" for each step that holds; any other ends
the program. The one argument is an empty directory.
"""

import gc
import os
import socket
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import testpeer
import tuntrail_ffi as sdk
from sdk_app import PATIENCE, SESSIONS, SOCKETS, WINDOWS
from sdk_app import App, Recorder, Resolver, Throwing, config, equal, network_map, rule, throws
from sdk_uploads import cancelled_upload, claim, debug_upload, held_up_upload, host_transport, upload
from testpeer import Place


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
    # What an app prints by accident has no secrets in it.
    printed = f"{app.tunnel_config()} {config(directory, app.server, private_id='secret')}"
    assert "hidden" in printed and app.tunnel_config().private_key not in printed, printed
    assert "secret" not in printed, printed
    equal(44, len(sdk.public_key_of(sdk.generate_private_key())))
    undecided = sdk.Client(config(directory, app.server, consent=sdk.Consent.UNKNOWN))
    equal(None, undecided.log_id())
    throws(sdk.TuntrailError.NoConsent, undecided.upload, "scenario")
    undecided.shutdown()
    equal([], app.files("refused"))


def tunnel(app):
    flows = sdk.FlowSettings(events=True)
    sessions = sdk.SessionSettings(rules=[rule(7, "100.64.0.2/32", 443)])
    more = {"flows": flows, "sessions": sessions, "remote_commands": sdk.RemoteCommands.ALLOWED, "log_filter": "debug"}
    app.client = sdk.Client(config(app.path("records"), app.server, **more))
    app.client.set_listener(app.recorder)
    app.client.set_network(network_map(), sdk.Routes(local=["100.64.0.1"], remote=["100.64.0.0/10", "10.20.0.0/16"]))
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
    # Fewer, if an idle connection has ended meanwhile.
    assert testpeer.open_descriptors() <= before, before


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
        (client.request_debug_upload, [sdk.DebugRequest()]), (client.handle_command, ["{}"]),
        (client.socket_counter, [64]), (client.flush, []), (client.export, [app.path("late.tar.zst")]),
        (client.clear, []), (client.log_id, []), (client.stats, []), (client.set_log_filter, ["info"]),
    ):  # fmt: skip
        throws(sdk.TuntrailError.Closed, call, *arguments)


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
    # 8 KiB for each client: half the write buffer of one of its streams. Python's own heap breathes by some 100 KiB.
    assert growth < 8 << 20, growth
    assert testpeer.open_descriptors() <= descriptors, descriptors
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
        held_up_upload, debug_upload, consent, export_and_clear, log, device_end, failing_callbacks, closing,
        host_transport, claim, thousand_clients,
    ):  # fmt: skip
        step(app)
        print("ok", step.__name__.replace("_", " "), flush=True)
    app.server.stop()


main()
