// The SDK from begin to end in Kotlin: the steps of SDK_STEPS in tests/bindings/src/lib.rs. An app with a VPN does what is done
// here, in about this order. Prints "ok NAME" for each step that holds; any other ends the program. The one argument is an
// empty directory.

import java.io.File
import java.time.Duration
import tuntrail.*
import uniffi.testpeer.Place
import uniffi.testpeer.nativeThreadName
import uniffi.testpeer.openDescriptors
import uniffi.testpeer.residentBytes
import uniffi.testpeer.threadsNamed
import uniffi.testpeer.waitForThreadsNamed

fun configuration(app: App) {
    val good = app.config("refused")
    for (wrong in listOf(
        good.copy(baseUrl = "ftp://nowhere"),
        good.copy(directory = ""),
        good.copy(logFilter = "loud"),
        good.copy(privateId = "secret"),
        good.copy(flows = FlowSettings(window = Duration.ofMillis(10))),
        good.copy(sessions = SessionSettings(listOf(rule(1u, "100.64.0.999", 1u)))),
    )) {
        val reason = throws<TuntrailException.Config> { Client(wrong) }.reason
        holds(reason.isNotEmpty() && "secret" !in reason, reason)
    }
    val file = app.network.tunnelConfig().replace("PrivateKey = ", "PrivateKey = x")
    val reason = throws<TuntrailException.Config> { parseTunnelConfig(file) }.reason
    holds("line 2" in reason && app.tunnelConfig().privateKey !in reason, reason)
    // What an app prints by accident has no secrets in it.
    val printed = "${app.tunnelConfig()} ${good.copy(privateId = "secret")}"
    holds("hidden" in printed && app.tunnelConfig().privateKey !in printed && "secret" !in printed, printed)
    equal(44, publicKeyOf(generatePrivateKey()).length)
    Client(app.config("refused", Consent.UNKNOWN)).use { undecided ->
        equal(null, undecided.logId())
        throws<TuntrailException.NoConsent> { undecided.upload("scenario") }
    }
    equal(0, app.files("refused").size)
}

fun tunnel(app: App) {
    app.client = Client(
        app.config("records").copy(
            flows = FlowSettings(events = true),
            sessions = SessionSettings(listOf(rule(7u, "100.64.0.2/32", 443u))),
            logFilter = "debug",
            remoteCommands = RemoteCommands.ALLOWED,
        )
    )
    app.client.setListener(app.recorder)
    app.client.setNetwork(networkMap, routes)
    val config = app.tunnelConfig()
    val peer = config.peers.single()
    val named = config.copy(peers = listOf(peer.copy(endpoint = peer.endpoint!!.replace("127.0.0.1", "vpn.example.com"))))
    val info = app.client.startTunnel(named, TunDevice.Tun(app.network.attach()), app.protector, Resolver())
    holds(info.localV4 != null && info.adapterLuid == null, info)
    val (socket, thread) = app.protector.calls.next()
    holds(socket > 2u, socket)
    equal(nativeThreadName(), thread)

    val flow = app.network.exchange(Place.NODE, 20_000u, 60_000u)
    app.recorder.waitFor<Event.PeerConnected> { it.publicKey == peer.publicKey }
    val stats = app.client.stats().tunnel!!
    equal(flow.counts(), Counts(stats.txPackets, stats.txBytes, stats.rxPackets, stats.rxBytes))
    equal(peer.publicKey, stats.peers.single().publicKey)
    throws<TuntrailException.Tunnel> { app.startTunnel(app.client) }
    // That try has replaced the programs of the device.
    app.client.stopTunnel()
    app.startTunnel(app.client, app.protector)
    app.protector.calls.clear()
}

fun exitFlows(app: App) {
    // So far there were only sums.
    for (row in app.exitRows()) {
        equal(Triple(0.toUByte(), "100.64.0.1:0", null), Triple(row.protocol, row.source, row.destination))
    }
    holds(app.server.entries(WINDOWS).none { "203.0.113.7" in it })
    app.client.setExitFlows(ExitFlows.FULL)
    app.client.flush()
    val full = app.network.exchange(Place.INTERNET, 1_000u, 2_000u)
    app.upload()
    equal("203.0.113.7:443", full.destination)
    equal(full.counts(), app.recorded(full))
    app.client.setExitFlows(ExitFlows.OFF)
    val before = app.exitRows().size
    val off = app.network.exchange(Place.INTERNET, 1_000u, 2_000u)
    app.upload()
    equal(before, app.exitRows().size)
    val withheld = app.client.stats().flows!!.withheld
    equal(off.txBytes to off.rxBytes, withheld.txBytes to withheld.rxBytes)
    app.client.setExitFlows(ExitFlows.AGGREGATED)
}

fun sessions(app: App) {
    // A session is recorded when it is over, and with the tunnel all are.
    app.client.stopTunnel()
    app.upload()
    equal(setOf(7uL), app.server.numbers(SESSIONS, "resourceId").toSet())
    val before = app.server.entries(SESSIONS).size
    app.startTunnel(app.client, app.protector)
    app.client.setSessionRules(listOf(rule(8u, "10.20.0.0/16", 22u)))
    val flow = app.network.exchange(Place.SUBNET, 16u, 5_000u)
    app.network.exchange(Place.NODE, 16u, 5_000u)
    app.client.stopTunnel()
    app.upload()
    val new = app.server.entries(SESSIONS).drop(before).single()
    holds("\"resourceId\":8" in new && "\"destAddr\":\"${flow.destination}\"" in new, new)
    // Of sessions the content counts.
    holds("\"bytesTx\":16," in new && "\"bytesRx\":5000" in new, new)
    app.startTunnel(app.client, app.protector)
    app.protector.calls.clear()
}

fun socketStatistics(app: App) {
    // What the server knows of a label: pairs of bytes sent and received.
    fun moved() = app.server.numbers(SOCKETS, "64").chunked(2).let { pairs -> pairs.sumOf { it[0] } to pairs.sumOf { it[1] } }
    throws<TuntrailException.Config> { app.client.socketCounter(3u) }
    app.client.enableSocketStats(Duration.ofHours(1))
    app.client.socketCounter(64u).use { counter ->
        counter.add(1_000u, 2_000u)
        counter.add(1u, 2u)
        // The JVM does not tell the descriptors of its sockets; Android does.
        throws<TuntrailException.Config> { app.client.registerSocket(-1, 65u) }
        app.client.upload("scenario", listOf(Stream.SOCKETS)).use { holds(it.join().complete) }
        equal(1_001uL to 2_002uL, moved())
        app.client.disableSocketStats()
        counter.add(5u, 5u)
        app.upload()
        equal(1_001uL to 2_002uL, moved())
    }
}

fun networkChange(app: App) {
    app.client.setPowerState(PowerState(batteryPercent = 50u))
    throws<TuntrailException.Config> { app.client.setPowerState(PowerState(batteryPercent = 101u)) }
    app.client.setNetworkState(NetworkState(connected = true, id = 1u, `interface` = InterfaceKind.WIFI))
    holds(app.protector.calls.isEmpty())
    app.client.setNetworkState(NetworkState(connected = true, id = 2u, `interface` = InterfaceKind.CELLULAR))
    equal("tuntrail-tunnel", app.protector.calls.next().second)
    app.network.exchange(Place.NODE, 16u, 100u)
}

fun consent(app: App) {
    val name = app.client.logId()
    val uploads = app.server.uploads()
    val kept = app.network.exchange(Place.NODE, 7_000u, 7_000u)
    app.client.flush()
    app.client.setConsent(Consent.DENIED)
    // Only the denial itself is left.
    equal(setOf("CONSENT"), app.files("records").map { it.name.take(7) }.toSet())
    throws<TuntrailException.NoConsent> { app.client.upload("scenario") }
    equal(null, app.client.logId())
    val denied = app.network.exchange(Place.NODE, 8_000u, 8_000u)
    app.client.setConsent(Consent.GRANTED)
    holds(app.client.logId() !in setOf(null, name), name)
    val flow = app.network.exchange(Place.NODE, 9_000u, 9_000u)
    equal(uploads, app.server.uploads())
    app.upload()
    equal(Counts(), app.recorded(kept))
    equal(Counts(), app.recorded(denied))
    equal(flow.counts(), app.recorded(flow))
}

fun exportAndClear(app: App) {
    val flow = app.network.exchange(Place.NODE, 1_000u, 1_000u)
    val report = app.client.export(app.path("export.tar.zst"))
    equal(File(app.path("export.tar.zst")).length().toULong(), report.bytes)
    holds(report.records > 0u && report.logFiles > 0u && report.unreadable == 0uL, report)
    throws<TuntrailException.Storage> { app.client.export(app.path("no/such/folder/export.tar.zst")) }
    app.client.clear()
    app.client.upload("scenario").use { holds(it.join().outcome is UploadOutcome.NothingToSend) }
    equal(Counts(), app.recorded(flow))
}

fun log(app: App) {
    fun lines() = app.client.stats().log!!.lines
    val before = lines()
    app.client.setNetwork(networkMap, Routes())
    holds(lines() > before)
    throws<TuntrailException.Config> { app.client.setLogFilter("loud") }
    app.client.setLogFilter("off")
    val off = lines()
    app.client.setNetwork(networkMap, Routes())
    equal(off, lines())
}

fun deviceEnd(app: App) {
    app.network.unplug()
    app.recorder.waitFor<Event.TunnelDeviceEnded>()
    holds(app.client.stats().tunnel!!.deviceEnded)
    app.client.stopTunnel()
}

fun failingCallbacks(app: App) {
    val errors = listOf(CallbackException.Failed("on purpose"), IllegalStateException("on purpose"))
    val failed = app.client.stats().events.failed
    val listeners = errors.map { error ->
        Throwing(error).also { listener ->
            app.client.setListener(listener)
            app.upload()
            listener.calls.next()
        }
    }
    app.client.setListener(app.recorder)
    app.upload()
    app.recorder.waitFor<Event.UploadEnded>()
    equal(failed + listeners.sumOf { 1 + it.calls.size }.toULong(), app.client.stats().events.failed)

    val before = openDescriptors()
    for (protector in errors.map { Throwing(it) } + Throwing()) {
        throws<TuntrailException.Tunnel> { app.startTunnel(app.client, protector) }
    }
    val config = app.tunnelConfig()
    val named = config.copy(peers = config.peers.map { it.copy(endpoint = "vpn.example.com:51820") })
    for (resolver in errors.map { Throwing(it) }) {
        val device = TunDevice.Tun(app.network.attach())
        throws<TuntrailException.Tunnel> { app.client.startTunnel(named, device, null, resolver) }
    }
    app.network.unplug()
    // Fewer, if an idle connection has ended meanwhile.
    holds(openDescriptors() <= before, before)
}

fun closing(app: App) {
    val client = app.client
    client.shutdown()
    client.shutdown()
    val device = TunDevice.Tun(app.network.attach())
    val calls = listOf<() -> Any?>(
        { client.setConsent(Consent.DENIED) }, { client.setListener(null) }, { client.stopTunnel() },
        { client.startTunnel(app.tunnelConfig(), device, null, null) }, { client.refreshTunnel() },
        { client.setNetwork(networkMap, routes) }, { client.setExitFlows(ExitFlows.OFF) },
        { client.setSessionRules(emptyList()) }, { client.setNetworkState(NetworkState(true)) },
        { client.setPowerState(PowerState()) }, { client.upload("scenario") }, { client.pauseUploads() },
        { client.resumeUploads() }, { client.nextUploadTask() },
        { client.requestDebugUpload(DebugRequest()) }, { client.handleCommand("{}") }, { client.claim(Role.APP) },
        { client.disableSocketStats() }, { client.socketCounter(64u) }, { client.flush() },
        { client.export(app.path("late.tar.zst")) }, { client.clear() }, { client.logId() }, { client.stats() },
        { client.setLogFilter("info") },
    )
    for (call in calls) throws<TuntrailException.Closed> { call() }
    client.close()
    client.close()
    throws<IllegalStateException> { client.flush() }
}

fun thousandClients(app: App) {
    repeat(100) { oneClient(app) }
    waitForThreadsNamed("tuntrail-events", 0u)
    System.gc()
    val memory = residentBytes()
    val descriptors = openDescriptors()
    val threads = threadsNamed("tuntrail")
    repeat(1_000) { oneClient(app) }
    waitForThreadsNamed("tuntrail", threads)
    System.gc()
    val growth = residentBytes().toLong() - memory.toLong()
    System.err.println("growth ${growth shr 10} KiB")
    // 8 KiB for each client: half the write buffer of one of its streams.
    holds(growth < 8 shl 20, growth)
    holds(openDescriptors() <= descriptors, descriptors)
}

fun oneClient(app: App) {
    Client(app.config("cycle")).use { client ->
        client.setListener(Recorder())
        app.startTunnel(client, app.protector)
        client.shutdown()
    }
}

fun main(arguments: Array<String>) {
    val app = App(File(arguments.single()))
    val steps = listOf(
        "configuration" to ::configuration, "tunnel" to ::tunnel, "upload" to ::upload, "exit flows" to ::exitFlows,
        "sessions" to ::sessions, "socket statistics" to ::socketStatistics, "network change" to ::networkChange,
        "cancelled upload" to ::cancelledUpload, "held up upload" to ::heldUpUpload, "debug upload" to ::debugUpload,
        "consent" to ::consent,
        "export and clear" to ::exportAndClear, "log" to ::log, "device end" to ::deviceEnd,
        "failing callbacks" to ::failingCallbacks, "closing" to ::closing, "host transport" to ::hostTransport,
        "claim" to ::claim, "thousand clients" to ::thousandClients,
    )
    for ((name, step) in steps) {
        step(app)
        println("ok $name")
    }
    app.server.stop()
}
