//! What needs a Swift compiler.

use tuntrail_bindings_tests::{Failure, Swift};
use tuntrail_logserver::{Server, ServerConfig};

use super::folder::package;

/// What `swift/caller/main.swift` goes through.
const SCENARIOS: &[&str] = &[
    "settings",
    "prefixes",
    "networks",
    "host names",
    "descriptors",
    "settings in preferences",
    "directories",
    "codec",
    "bad messages",
    "clients",
    "streams",
    "tunnels",
    "cancellation",
    "locked storage",
    "last word",
    "orders",
    "consent",
    "consent without a tunnel",
    "no answer",
    "claims",
];

/// What `swift/provider/main.swift` goes through.
const ON_STUBS: &[&str] = &[
    "network settings",
    "failed start",
    "life of a tunnel",
    "stop while starting",
    "refusal while starting",
    "end of a tunnel",
    "keychain",
    "consent in the app",
];

/// Builds the package as it describes itself, then the caller, which may use what is the package's own. The home is for the package
/// manager's caches.
const BUILD: &str = r#"
    export HOME="$PWD"
    swift build --package-path apple -Xswiftc -warnings-as-errors >&2
    built=apple/.build/debug
    swiftc -swift-version 6 -warnings-as-errors -parse-as-library -package-name apple -module-name Caller -o run \
        common/*.swift caller/*.swift "$built"/Tuntrail.build/*.o "$built"/TuntrailTunnel.build/*.o -I "$built/Modules" \
        -I apple/Sources \
        -L . -ltuntrail_ffi -Xlinker -rpath -Xlinker '$ORIGIN'
"#;

/// Compiles each module with the stubs in reach, to object code: some of the compiler's checks come late. The core's module map is
/// found as Xcode's compiler finds it in the XCFramework: in a folder that is called as the module.
const CHECK: &str = r#"
    mkdir out
    for stub in stubs/*.swift; do
        name=$(basename "$stub" .swift)
        swiftc -swift-version 6 -parse-as-library -module-name "$name" \
            -emit-module -emit-module-path "out/$name.swiftmodule" -c -o "out/$name.o" -I out "$stub"
    done
    module() {
        name=$1
        shift
        swiftc -swift-version 6 -warnings-as-errors -parse-as-library -package-name apple -wmo -module-name "$name" \
            -emit-module -emit-module-path "out/$name.swiftmodule" -c -o "out/$name.o" -I out \
            -I apple/Sources "$@"
    }
    module Tuntrail apple/Sources/Tuntrail/*.swift apple/Sources/Tuntrail/Generated/*.swift
    module TuntrailTunnel apple/Sources/TuntrailTunnel/*.swift
    module TuntrailSampleExtension apple/sample/Extension/*.swift
    module TuntrailSample apple/sample/App/*.swift
    module Snippets snippets/*.swift
    swiftc -swift-version 6 -warnings-as-errors -parse-as-library -package-name apple -module-name Caller -o run -I out \
        -I apple/Sources common/*.swift provider/*.swift \
        out/Tuntrail.o out/TuntrailTunnel.o out/NetworkExtension.o out/Network.o out/Security.o \
        -L . -ltuntrail_ffi -Xlinker -rpath -Xlinker '$ORIGIN'
"#;

#[test]
fn the_package_builds_and_works_with_the_real_library() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = package("apple-run", &["common", "caller"])?;
    swift.run(&folder, BUILD)?;
    let mut server = Server::start(ServerConfig::default()).unwrap();
    let output = swift.run(&folder, &format!("./run {}", server.base_url()))?;
    assert_eq!(passed(&output), SCENARIOS, "{output}");
    let sent: Vec<u64> = output.lines().filter_map(|line| line.strip_prefix("sent ")?.parse().ok()).collect();
    assert_eq!(sent.len(), 3, "{output}");
    assert_eq!(server.stats().stored, sent.iter().sum::<u64>(), "{output}");
    server.stop();
    Ok(())
}

#[test]
fn everything_agrees_with_the_stubs_of_apples_frameworks_and_the_provider_runs_on_them() -> Result<(), Failure>
{
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = package("apple-check", &["stubs", "snippets", "common", "provider"])?;
    swift.run(&folder, CHECK)?;
    // With what of the system the provider needs, in the stubs.
    let output = swift.run(&folder, "./run")?;
    assert_eq!(passed(&output), ON_STUBS, "{output}");
    Ok(())
}

/// The scenarios that a caller has gone through.
fn passed(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.strip_prefix("ok ")).collect()
}
