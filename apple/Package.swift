// swift-tools-version: 6.0
import PackageDescription

// Run ./build-xcframework first: it makes the XCFramework and Sources/Tuntrail/Generated, which are not in the repository.

#if os(macOS)
// The Rust core, a static library for each platform.
let core: Target = .binaryTarget(name: "TuntrailFFI", path: "TuntrailFFI.xcframework")
#else
// On Linux the package is checked with the core's header only; it ships for Apple's systems.
let core: Target = .systemLibrary(name: "TuntrailFFI", path: "Sources/TuntrailFFI")
#endif

let package = Package(
    name: "Tuntrail",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        // For the app: the client, its async layer, and the line to the provider.
        .library(name: "Tuntrail", targets: ["Tuntrail"]),
        // For the extension: the packet tunnel provider.
        .library(name: "TuntrailTunnel", targets: ["TuntrailTunnel"]),
    ],
    targets: [
        core,
        .target(
            name: "Tuntrail",
            dependencies: ["TuntrailFFI"],
            resources: [.copy("PrivacyInfo.xcprivacy")],
            linkerSettings: [
                // The system's trust store, for TLS.
                .linkedFramework("Security", .when(platforms: [.iOS, .macOS])),
                .linkedFramework("CoreFoundation", .when(platforms: [.iOS, .macOS])),
            ]),
        .target(name: "TuntrailTunnel", dependencies: ["Tuntrail"]),
    ],
    swiftLanguageModes: [.v6]
)
