// Shown in docs/apple.md. Compiled with the stubs.
import Foundation
import Tuntrail
import TuntrailTunnel

final class OwnProvider: TuntrailPacketTunnelProvider, @unchecked Sendable {
    override func clientConfig(settings: TuntrailSettings, directories: TuntrailDirectories) throws -> ClientConfig {
        var config = try super.clientConfig(settings: settings, directories: directories)
        config.uploads = UploadSettings(headers: [Header(name: "Authorization", value: "Bearer …")], lowMemory: true)
        config.flows?.events = true
        return config
    }

    override func network(of config: TunnelConfig) throws -> (map: NetworkMap, routes: Routes) {
        let laptop = Node(
            id: 1, stableId: "n1", name: "laptop.example.com", addresses: ["10.9.0.2"], os: "iOS", tags: ["tag:phone"])
        let server = Node(id: 2, stableId: "n2", name: "files.example.com", addresses: ["10.9.0.10"])
        let routes = Routes(local: ["10.9.0.2"], remote: ["10.9.0.0/24", "10.20.0.0/16"])
        return (NetworkMap(selfNode: laptop, peers: [server]), routes)
    }
}

func watch(_ client: Client) throws -> (ClientEvents, Task<Void, Never>) {
    let events = try ClientEvents(of: client)
    let stream = events.stream()
    let reader = Task {
        for await event in stream {
            if case .peerSilent(let key) = event { print("\(key) does not answer") }
        }
    }
    return (events, reader)
}
