//! The configuration that ships names what the platform projects rely on.

use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, fresh_folder, library, read, sources};

#[test]
fn the_shipped_configuration_gives_the_files_that_the_platform_projects_expect() -> Result<(), Failure> {
    let config = sources().join("../../bindings/uniffi.toml");
    let library = library("tuntrail_ffi")?;
    let expected: [(Language, &str, &[(&str, &str)]); 3] = [
        (Language::Kotlin, "kotlin", &[("tuntrail/tuntrail_ffi.kt", "package tuntrail")]),
        (
            Language::Swift,
            "swift",
            &[
                ("Tuntrail.swift", "import TuntrailFFI"),
                ("TuntrailFFI.h", "uniffi_tuntrail_ffi"),
                ("TuntrailFFI.modulemap", "module TuntrailFFI"),
            ],
        ),
        (Language::Csharp, "csharp", &[("Tuntrail.cs", "Name = \"tuntrail_ffi\";")]),
    ];
    for (language, name, files) in expected {
        let out = fresh_folder(env!("CARGO_TARGET_TMPDIR"), &format!("shipped-{name}"))?;
        tuntrail_bindgen::generate(&library, language, &out, Some(&config))?;
        for (file, content) in files {
            assert!(read(&out.join(file))?.contains(content), "{file}");
        }
    }
    Ok(())
}
