//! The Python bindings, which need no compiler: the quickest proof that the facade itself behaves.

use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, Program, all_scenarios, bindings, fresh_folder, search_path, skip, sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_python() -> Result<(), Failure> {
    let Some(python) = search_path("python3") else {
        return skip("Python", "apt-get install python3");
    };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "python")?;
    bindings("tuntrail_ffi_fixture", Language::Python, &folder)?;
    let output =
        Program::new(python).arg(sources().join("python/caller.py")).env("PYTHONPATH", &folder).run()?;
    all_scenarios(&output)
}
