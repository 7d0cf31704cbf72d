//! The Swift bindings, compiled and run.

use std::fs;

use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, Swift, all_scenarios, bindings, fresh_folder, sources};

#[test]
fn the_fixture_keeps_its_promises_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift")?;
    bindings("tuntrail_ffi_fixture", Language::Swift, &folder)?;
    let main = folder.join("main.swift");
    fs::copy(sources().join("swift/main.swift"), &main)
        .map_err(|source| Failure::File { path: main, source })?;
    let compile = "swiftc -swift-version 6 -o caller main.swift fixture.swift \
                   -Xcc -fmodule-map-file=\"$PWD\"/fixtureFFI.modulemap -L . -ltuntrail_ffi_fixture \
                   -Xlinker -rpath -Xlinker '$ORIGIN'";
    swift.run(&folder, compile)?;
    all_scenarios(&swift.run(&folder, "./caller")?)
}
