//! The C# bindings, compiled with Mono's compiler at the language level they promise, without warnings, and run.

use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, Mono, all_scenarios, bindings, fresh_folder, read, sources, write};

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
    all_scenarios(&mono.run(&program, &[])?)
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
fn the_sdk_itself_works_in_csharp() -> Result<(), Failure> {
    let Some(mono) = Mono::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "csharp-sdk")?;
    bindings("tuntrail_ffi", Language::Csharp, &folder)?;
    let program = mono.compile(&folder, &[folder.join("Tuntrail.cs"), sources().join("csharp/Sdk.cs")])?;
    let records = tempfile::tempdir().unwrap();
    let said = mono.run(&program, &[records.path().to_str().unwrap()])?;
    assert_eq!(said.trim_end(), "complete 0 closed");
    Ok(())
}
