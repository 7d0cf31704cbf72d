//! What needs no Swift compiler: property lists, and that the documentation shows code that is compiled.

use camino::Utf8Path;
use tuntrail_bindings_tests::{Failure, Program, read, search_path, skip, sources};

use super::folder::{apple, files};

/// Prints a property list as JSON, or fails with the place where it is malformed.
const PLIST_TO_JSON: &str =
    "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb')), sort_keys=True))";

fn plist(path: &Utf8Path) -> Result<String, Failure> {
    Program::new("python3").args(["-c", PLIST_TO_JSON]).arg(path.as_str()).run()
}

#[test]
fn property_lists_are_well_formed_and_name_what_is_there() -> Result<(), Failure> {
    if search_path("python3").is_none() {
        return skip("python3", "apt-get install python3");
    }
    let sample = apple().join("sample");
    let is_list = |path: &Utf8Path| matches!(path.extension(), Some("plist" | "entitlements" | "xcprivacy"));
    let lists: Vec<_> = files(&apple())?.into_iter().filter(|path| is_list(path)).collect();
    assert_eq!(lists.len(), 5, "{lists:?}");
    for list in &lists {
        plist(list)?;
    }
    let settings = read(&sample.join("App/SampleSettings.swift"))?;
    let project = read(&sample.join("project.yml"))?;
    let value = |name: &str| {
        let line = settings.lines().find(|line| line.contains(&format!("let {name} = "))).unwrap_or_default();
        line.split('"').nth(1).unwrap_or_default().to_owned()
    };
    assert!(project.contains(&format!("PRODUCT_BUNDLE_IDENTIFIER: {}\n", value("extensionID"))));
    let group = value("keychainGroup").replace("TEAMID.", "$(AppIdentifierPrefix)");
    for entitlements in ["App/App.entitlements", "Extension/Extension.entitlements"] {
        let entitlements = plist(&sample.join(entitlements))?;
        for needed in [value("appGroup"), group.clone(), "packet-tunnel-provider".to_owned()] {
            assert!(entitlements.contains(&format!("[\"{needed}\"]")), "{needed} in {entitlements}");
        }
    }
    let info = plist(&sample.join("Extension/Info.plist"))?;
    assert!(info.contains("\"$(PRODUCT_MODULE_NAME).PacketTunnelProvider\""), "{info}");
    assert!(info.contains("\"com.apple.networkextension.packet-tunnel\""), "{info}");
    let provider = read(&sample.join("Extension/PacketTunnelProvider.swift"))?;
    assert!(provider.contains("class PacketTunnelProvider: TuntrailPacketTunnelProvider"));
    Ok(())
}

#[test]
fn the_privacy_manifest_has_the_keys_and_codes_that_apple_defines() -> Result<(), Failure> {
    if search_path("python3").is_none() {
        return skip("python3", "apt-get install python3");
    }
    let manifest = plist(&apple().join("Sources/Tuntrail/PrivacyInfo.xcprivacy"))?;
    for needed in [
        "\"NSPrivacyTracking\": false",
        "\"NSPrivacyTrackingDomains\": []",
        "\"NSPrivacyAccessedAPIType\": \"NSPrivacyAccessedAPICategoryFileTimestamp\"",
        "\"NSPrivacyAccessedAPITypeReasons\": [\"C617.1\"]",
        "\"NSPrivacyCollectedDataTypePurposes\": [\"NSPrivacyCollectedDataTypePurposeAppFunctionality\"]",
    ] {
        assert!(manifest.contains(needed), "{needed} in {manifest}");
    }
    assert!(read(&apple().join("Package.swift"))?.contains("PrivacyInfo.xcprivacy"));
    Ok(())
}

#[test]
fn code_in_the_documentation_is_code_that_is_compiled() -> Result<(), Failure> {
    let mut compiled = String::new();
    let swift = files(&apple())?.into_iter().chain(files(&sources().join("swift/snippets"))?);
    for file in swift.filter(|path| path.extension() == Some("swift")) {
        compiled.push_str(&plain(&read(&file)?));
    }
    let mut count = 0;
    for document in ["docs/apple.md", "apple/README.md"] {
        let text = read(&sources().join("../..").join(document))?;
        for block in text.split("```swift\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            assert!(compiled.contains(&plain(block)), "{document} shows what no compiled file has:\n{block}");
            count += 1;
        }
    }
    assert!(count >= 6, "{count} pieces of code found: has their marking changed?");
    Ok(())
}

/// Without indentation and empty lines: a piece out of a function keeps its meaning further left.
fn plain(code: &str) -> String {
    code.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .fold(String::new(), |text, line| text + line + "\n")
}
