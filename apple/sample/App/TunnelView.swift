import SwiftUI
import Tuntrail

/// Connect, decide about recording, send or share the debug logs.
struct TunnelView: View {
    @State private var model = TunnelModel()
    @State private var configuration = ""

    var body: some View {
        Form {
            Section("Tunnel") {
                TextField("wg-quick configuration", text: $configuration, axis: .vertical)
                Button("Import") { Task { await model.importConfiguration(configuration) } }
                    .disabled(configuration.isEmpty)
                Button(model.isConnected ? "Disconnect" : "Connect") { Task { await model.toggleTunnel() } }
            }
            Section("Debug logs") {
                Toggle("Record connections", isOn: $model.isRecording)
                Toggle("Each connection to the Internet", isOn: $model.recordsFullExitFlows)
                    .disabled(!model.isRecording)
                Button(model.isUploading ? "Cancel" : "Upload debug logs") { model.uploadOrCancel() }
                if let progress = model.upload {
                    ProgressView(value: Double(progress.sentRecords), total: Double(max(1, progress.totalRecords)))
                }
                if let marker = model.marker {
                    Text("Tell support: \(marker)")
                }
                Button("Export") { Task { await model.export() } }
                if let file = model.exported {
                    ShareLink(item: file)
                }
            }
            if let message = model.message {
                Text(message)
            }
        }
        .task { await model.follow() }
    }
}
