//! The C# bindings, compiled with Mono's compiler at the language level they promise, without warnings, and run.

use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Mono, SCENARIOS, SDK_STEPS, all_of, bindings, fresh_folder, read, sdk_bindings, sources, write,
};

#[test]
fn the_fixture_keeps_its_promises_in_csharp() -> Result<(), Failure> {
    let Some(mono) = Mono::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "csharp")?;
    bindings("tuntrail_ffi_fixture", Language::Csharp, &folder)?;
    let caller = sources().join("csharp");
    let program = mono.compile(
        &folder,
        &[
            folder.join("Fixture.cs"),
            caller.join("Program.cs"),
            caller.join("Values.cs"),
            caller.join("Objects.cs"),
        ],
    )?;
    all_of(SCENARIOS, &mono.run(&program, &[])?)
}

#[test]
fn bindings_of_another_build_are_refused_in_csharp() -> Result<(), Failure> {
    let Some(mono) = Mono::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "csharp-mismatch")?;
    bindings("tuntrail_ffi_fixture", Language::Csharp, &folder)?;
    let source = folder.join("Fixture.cs");
    let good = read(&source)?;
    let caller = sources().join("csharp/Mismatch.cs");

    let checksum = "Native.uniffi_tuntrail_ffi_fixture_checksum_func_echo_u8() != ";
    assert!(good.contains(checksum));
    write(
        &source,
        &good.replace(checksum, "1 + Native.uniffi_tuntrail_ffi_fixture_checksum_func_echo_u8() != "),
    )?;
    let said = mono.run(&mono.compile(&folder, &[source.clone(), caller.clone()])?, &[])?;
    assert!(said.contains("LibraryException") && said.contains("func_echo_u8 has changed"), "{said}");

    let contract = "ExpectedContract = ";
    assert!(good.contains(contract));
    write(&source, &good.replace(contract, "ExpectedContract = 1 + "))?;
    let said = mono.run(&mono.compile(&folder, &[source.clone(), caller.clone()])?, &[])?;
    assert!(said.contains("LibraryException") && said.contains("UniFFI contract"), "{said}");

    write(&source, &good.replace("Name = \"tuntrail_ffi_fixture\"", "Name = \"tuntrail_is_not_here\""))?;
    let said = mono.run(&mono.compile(&folder, &[source, caller])?, &[])?;
    assert!(said.contains("LibraryException") && said.contains("tuntrail_is_not_here"), "{said}");
    Ok(())
}

#[test]
fn the_sdk_goes_through_all_steps_in_csharp() -> Result<(), Failure> {
    let Some(mono) = Mono::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "csharp-sdk")?;
    sdk_bindings(Language::Csharp, &folder)?;
    let caller = sources().join("csharp");
    let program = mono.compile(
        &folder,
        &[
            folder.join("Tuntrail.cs"),
            folder.join("TestPeer.cs"),
            caller.join("Sdk.cs"),
            caller.join("SdkApp.cs"),
            caller.join("SdkUploads.cs"),
        ],
    )?;
    let records = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "csharp-sdk/records")?;
    all_of(SDK_STEPS, &mono.run(&program, &[records.as_str()])?)
}
