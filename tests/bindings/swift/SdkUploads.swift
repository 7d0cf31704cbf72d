// The steps about uploads: what arrives, what holds them up, and the app's own HTTP.
import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

func upload(_ app: App) throws {
    let carried = try [Place.nodeV6, .subnet].map { try app.network.exchange(place: $0, request: 30_000, response: 40_000) }
    let exitFlow = try app.network.exchange(place: .internet, request: 1_000, response: 2_000)
    let asked = try app.client.upload(reason: "scenario")
    let report = try asked.join()
    holds(report.complete && report.outcome == .complete && report.remainingRecords == 0, report)
    let last: (UInt64, UploadProgress) = app.recorder.wait { event in
        if case .uploadProgress(let upload, let progress) = event, progress.sentRecords == progress.totalRecords {
            return (upload, progress)
        }
        return nil
    }
    equal(asked.id(), last.0)
    equal(report.sentBytes, last.1.sentBytes)
    equal(report, app.recorder.waitForEnd())
    equal(report, try asked.report())
    for flow in carried { equal(flow.counts, try app.recorded(flow)) }
    equal([.virtual, .subnet, .exit, .physical], Set(try app.server.flows(collection: windows).map { $0.kind }))
    equal(exitFlow.counts, sum(try app.exitRows()))
    let text = try app.server.entries(collection: windows).joined()
    for name in ["phone.example.com", "office.example.com", "user@example.com"] { holds(text.contains(name), name) }
    let opened = try app.server.entries(collection: flows).filter {
        $0.contains("\"event\":\"open\"") && $0.contains("\"10.20.0.5:22\"")
    }
    equal(1, opened.count)
}

func cancelledUpload(_ app: App) throws {
    try app.server.stall()
    let flow = try app.network.exchange(place: .node, request: 5_000, response: 5_000)
    let asked = try app.client.upload(reason: "scenario")
    try app.server.waitUntilStalled()
    equal(nil, try asked.report())
    try asked.cancel()
    let report = try asked.join()
    holds(report.outcome == .cancelled && !report.complete && report.remainingRecords > 0, report)
    equal(Counts(), try app.recorded(flow))
    app.server.goOn()
    try app.upload()
    equal(flow.counts, try app.recorded(flow))
    equal(0, app.server.duplicates())
}

func heldUpUpload(_ app: App) throws {
    let flow = try app.network.exchange(place: .node, request: 6_000, response: 6_000)
    try app.server.refuseNext(status: 403)
    let outcome = try app.client.upload(reason: "scenario").join().outcome
    guard case .unauthorized(_, 403, let detail) = outcome, detail.contains("on purpose") else { fatalError("\(outcome)") }
    try app.client.pauseUploads()
    let before = app.server.uploads()
    let asked = try app.client.upload(reason: "scenario")
    equal(true, try app.client.stats().uploads?.paused)
    equal(nil, try asked.report())
    equal(before, app.server.uploads())
    try app.client.resumeUploads()
    holds(try asked.join().complete)
    equal(flow.counts, try app.recorded(flow))
}

func debugUpload(_ app: App) throws {
    let debug = try app.client.requestDebugUpload(request: DebugRequest(note: "It is slow."))
    holds(try debug.upload.join().complete && debug.marker.hasPrefix("BUG-"), debug.marker)
    let found = try app.server.entries(collection: diagnostics).filter {
        $0.contains(debug.marker) && $0.contains("\"It is slow.\"")
    }
    equal(1, found.count)
    let command = #"{"v":1,"id":"case-1","kind":"socket_stats","seconds":600}"#
    guard case .recordingSockets(600) = try app.client.handleCommand(command: command) else { fatalError("another outcome") }
    guard case .duplicate = try app.client.handleCommand(command: command) else { fatalError("obeyed twice") }
    try app.client.disableSocketStats()
    let unheard = #"{"v":1,"id":"case-2","kind":"unheard of"}"#
    equal("Config", failure { _ = try app.client.handleCommand(command: unheard) }.kind)
}

func hostTransport(_ app: App) throws {
    var config = app.config("background")
    config.uploads = UploadSettings(headers: [Header(name: "x-app", value: "scenario")], hostTransport: true)
    let client = try Client(config: config)
    let recorder = Recorder()
    try client.setListener(listener: recorder)
    try app.startTunnel(client)
    let flow = try app.network.exchange(place: .node, request: 3_000, response: 3_000)
    let asked = try client.upload(reason: "scenario")
    recorder.wait { $0 == .uploadWorkWaiting ? true : nil }
    equal("Config", failure { try client.completeUploadTask(task: 12_345, result: .failed(detail: "on purpose")) }.kind)
    tasks: while true {
        switch try client.nextUploadTask() {
        case .send(let id, let url, let headers, let body):
            try client.completeUploadTask(task: id, result: send(url: url, headers: headers, body: body))
        case .wait(let after): fatalError("nothing has failed, but wait \(after)")
        case .done: break tasks
        }
    }
    holds(try asked.join().complete)
    equal(flow.counts, try app.recorded(flow))
    app.left = try app.network.exchange(place: .node, request: 4_000, response: 4_000)
    try client.shutdown()
}

/// What the app's own HTTP makes of a task.
func send(url: String, headers: [Header], body: Data) -> UploadTaskResult {
    equal(["scenario"], headers.filter { $0.name == "x-app" }.map { $0.value })
    var request = URLRequest(url: URL(string: url)!)
    request.httpMethod = "POST"
    request.httpBody = body
    for header in headers { request.setValue(header.value, forHTTPHeaderField: header.name) }
    let results = Queue<UploadTaskResult>()
    let task = URLSession.shared.dataTask(with: request) { body, response, error in
        if let response = response as? HTTPURLResponse {
            let retryAfter = response.value(forHTTPHeaderField: "Retry-After")
            results.add(.answered(status: UInt16(response.statusCode), retryAfter: retryAfter, body: body ?? Data()))
        } else {
            results.add(.failed(detail: (error as? URLError).map { "URLError \($0.code.rawValue)" } ?? "no answer"))
        }
    }
    task.resume()
    return results.next()
}

func claim(_ app: App) throws {
    var config = app.config("background")
    config.role = .app
    // No lines of the log, which go along with uploads.
    config.logFilter = "off"
    let client = try Client(config: config)
    equal(.nothingToSend, try client.upload(reason: "scenario").join().outcome)
    holds(try client.claim(role: .extension) > 0)
    try app.upload(client)
    equal(app.left!.counts, try app.recorded(app.left!))
    try client.shutdown()
}
