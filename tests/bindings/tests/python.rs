//! The Python bindings, which need no compiler: the quickest proof that the facade itself behaves.

use camino::Utf8PathBuf;
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Program, SCENARIOS, SDK_STEPS, all_of, bindings, fresh_folder, sdk_bindings, search_path, skip,
    sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_python() -> Result<(), Failure> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "python")?;
    bindings("tuntrail_ffi_fixture", Language::Python, &folder)?;
    let output =
        Program::new(python).arg(sources().join("python/caller.py")).env("PYTHONPATH", &folder).run()?;
    all_of(SCENARIOS, &output)
}

#[test]
fn the_sdk_goes_through_all_steps_in_python() -> Result<(), Failure> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "python-sdk")?;
    sdk_bindings(Language::Python, &folder)?;
    let records = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "python-sdk/records")?;
    let caller = sources().join("python/sdk.py");
    let output = Program::new(python)
        .arg(caller)
        .arg(&records)
        .env("PYTHONPATH", &folder)
        // Nothing is to be left among the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()?;
    all_of(SDK_STEPS, &output)
}

fn python() -> Result<Option<Utf8PathBuf>, Failure> {
    let python = search_path("python3");
    if python.is_none() {
        skip("Python", "apt-get install python3")?;
    }
    Ok(python)
}
