"""The steps about uploads: what arrives, what holds them up, and the app's own HTTP."""

import http.client
from datetime import timedelta
from urllib.parse import urlsplit

import tuntrail_ffi as sdk
from sdk_app import DIAGNOSTICS, FLOWS, PATIENCE, WINDOWS, Recorder, config, equal, sums, throws
from testpeer import Place, TrafficKind


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


def debug_upload(app):
    debug = app.client.request_debug_upload(sdk.DebugRequest(note="It is slow."))
    assert debug.upload.join().complete and debug.marker.startswith("BUG-"), debug.marker
    found = [entry for entry in app.server.entries(DIAGNOSTICS) if debug.marker in entry and '"It is slow."' in entry]
    equal(1, len(found))
    command = '{"v":1,"id":"case-1","kind":"socket_stats","seconds":600}'
    outcome = app.client.handle_command(command)
    assert outcome.is_RECORDING_SOCKETS() and outcome.duration == timedelta(seconds=600), outcome
    assert app.client.handle_command(command).is_DUPLICATE()
    app.client.disable_socket_stats()
    throws(sdk.TuntrailError.Config, app.client.handle_command, '{"v":1,"id":"case-2","kind":"unheard of"}')


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
    # Without lines of the log, which go along with uploads.
    client = sdk.Client(config(app.path("background"), app.server, role=sdk.Role.APP, log_filter="off"))
    assert client.upload("scenario").join().outcome.is_NOTHING_TO_SEND()
    assert client.claim(sdk.Role.EXTENSION) > 0
    app.upload(client)
    flow = app.flow
    equal((flow.tx_packets, flow.tx_bytes, flow.rx_packets, flow.rx_bytes), app.recorded(flow))
    client.shutdown()
