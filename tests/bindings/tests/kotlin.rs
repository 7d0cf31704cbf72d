//! The Kotlin bindings, compiled for and run on the JVM with JNA, as on Android but for Android's own classes.

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Jvm, SCENARIOS, SDK_STEPS, all_of, bindings, class_path_of, fresh_folder, sdk_bindings, sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_kotlin() -> Result<(), Failure> {
    let Some(jvm) = jvm()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin")?;
    bindings("tuntrail_ffi_fixture", Language::Kotlin, &folder)?;
    let classes = compile(
        &jvm,
        &folder,
        &[folder.join("uniffi/fixture/fixture.kt"), sources().join("kotlin/Caller.kt")],
    )?;
    all_of(SCENARIOS, &run(&jvm, &folder, &classes, &["CallerKt"])?)
}

#[test]
fn the_sdk_goes_through_all_steps_in_kotlin() -> Result<(), Failure> {
    let Some(jvm) = jvm()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin-sdk")?;
    sdk_bindings(Language::Kotlin, &folder)?;
    let caller = sources().join("kotlin");
    let classes = compile(
        &jvm,
        &folder,
        &[
            folder.join("tuntrail/tuntrail_ffi.kt"),
            folder.join("uniffi/testpeer/testpeer.kt"),
            caller.join("Sdk.kt"),
            caller.join("SdkApp.kt"),
            caller.join("SdkUploads.kt"),
        ],
    )?;
    let records = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "kotlin-sdk/records")?;
    all_of(SDK_STEPS, &run(&jvm, &folder, &classes, &["SdkKt", records.as_str()])?)
}

fn jvm() -> Result<Option<Jvm>, Failure> {
    Jvm::find(env!("CARGO_TARGET_TMPDIR"), "kotlin")
}

fn compile(jvm: &Jvm, folder: &Utf8Path, files: &[Utf8PathBuf]) -> Result<Utf8PathBuf, Failure> {
    let classes = folder.join("classes");
    // Warnings in generated code are UniFFI's affair.
    jvm.kotlin(&["-nowarn", "-jvm-target", "11"], &class_path_of(jvm.jars()), files, &classes)?;
    Ok(classes)
}

fn run(jvm: &Jvm, folder: &Utf8Path, classes: &Utf8Path, main: &[&str]) -> Result<String, Failure> {
    let jars = jvm.jars().iter().map(Utf8PathBuf::as_path);
    jvm.java()
        // A heap that is in RAM from the beginning and no optimising compiler: what grows then is not the JVM's.
        .args(["-Xms64m", "-Xmx64m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Djna.library.path={folder}"))
        .args(["-cp", &class_path_of([classes].into_iter().chain(jars))])
        .args(main)
        .run()
}
