//! The configuration that ships names what the platform projects rely on.

use camino::Utf8PathBuf;
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, fresh_folder, library, read, sources};

#[test]
fn kotlin_has_the_package_of_the_android_library() -> Result<(), Failure> {
    let out = written(Language::Kotlin, "shipped-kotlin")?;
    assert!(read(&out.join("tuntrail/tuntrail_ffi.kt"))?.contains("package tuntrail"));
    Ok(())
}

#[test]
fn swift_has_the_module_of_the_apple_package_and_its_header() -> Result<(), Failure> {
    let out = written(Language::Swift, "shipped-swift")?;
    assert!(read(&out.join("Tuntrail.swift"))?.contains("import TuntrailFFI"));
    assert!(read(&out.join("TuntrailFFI.h"))?.contains("uniffi_tuntrail_ffi"));
    assert!(read(&out.join("TuntrailFFI.modulemap"))?.contains("module TuntrailFFI"));
    Ok(())
}

#[test]
fn csharp_has_the_namespace_and_the_library_of_the_windows_package() -> Result<(), Failure> {
    let source = read(&written(Language::Csharp, "shipped-csharp")?.join("Tuntrail.cs"))?;
    assert!(source.contains("namespace Tuntrail\n"));
    assert!(source.contains("Name = \"tuntrail_ffi\";"));
    Ok(())
}

fn written(language: Language, name: &str) -> Result<Utf8PathBuf, Failure> {
    let out = fresh_folder(env!("CARGO_TARGET_TMPDIR"), name)?;
    let config = sources().join("../../bindings/uniffi.toml");
    tuntrail_bindgen::generate(&library("tuntrail_ffi")?, language, &out, Some(&config))?;
    Ok(out)
}
