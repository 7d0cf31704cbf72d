//! A copy of `apple/` with the bindings generated into it, as `apple/build-xcframework` leaves it.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{Failure, fresh_folder, library, sources};

/// The folder in the clone.
pub(crate) fn apple() -> Utf8PathBuf {
    sources().join("../../apple")
}

/// A folder named `name` with the package in `apple`, the library beside it, and the test's own `others` from `tests/bindings/swift`.
pub(crate) fn package(name: &str, others: &[&str]) -> Result<Utf8PathBuf, Failure> {
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), name)?;
    let package = folder.join("apple");
    copy(&apple().join("Package.swift"), &package.join("Package.swift"))?;
    for part in ["Sources/Tuntrail", "Sources/TuntrailTunnel", "sample"] {
        copy_all(&apple().join(part), &package.join(part))?;
    }
    for other in others {
        copy_all(&sources().join("swift").join(other), &folder.join(other))?;
    }
    let library = library("tuntrail_ffi")?;
    copy(&library, &folder.join(library.file_name().unwrap_or_default()))?;
    let config = sources().join("../../bindings/uniffi.toml");
    let written = folder.join("bindings");
    tuntrail_bindgen::generate(&library, Language::Swift, &written, Some(&config))?;
    for (from, to) in [
        ("Tuntrail.swift", "Tuntrail/Generated/Tuntrail.swift"),
        ("TuntrailFFI.h", "TuntrailFFI/TuntrailFFI.h"),
        ("TuntrailFFI.modulemap", "TuntrailFFI/module.modulemap"),
    ] {
        copy(&written.join(from), &package.join("Sources").join(to))?;
    }
    Ok(folder)
}

/// All files below a folder, sorted, but what `apple/build-xcframework` may have left there.
pub(crate) fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Failure> {
    let failed = |source| Failure::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            found.push(entry.into_path());
        } else if entry.file_name() != "Generated" && !entry.file_name().ends_with(".xcodeproj") {
            found.extend(files(entry.path())?);
        }
    }
    found.sort();
    Ok(found)
}

fn copy_all(from: &Utf8Path, to: &Utf8Path) -> Result<(), Failure> {
    for file in files(from)? {
        let below = file.strip_prefix(from).unwrap_or(&file);
        copy(&file, &to.join(below))?;
    }
    Ok(())
}

pub(crate) fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: from.to_owned(), source };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::copy(from, to).map_err(failed)?;
    Ok(())
}
