//! `bindings/api.txt` is the facade's API as it is: a change to what apps can use shows in a review.

use camino::Utf8Path;
use tuntrail_bindings_tests::{Failure, library, read, sources};

#[test]
fn the_listing_of_the_api_is_current() -> Result<(), Failure> {
    let actual = tuntrail_bindgen::api(&library("tuntrail_ffi")?)?;
    let committed = read(&Utf8Path::new(sources()).join("../../bindings/api.txt"))?;
    let changed: Vec<String> = [('-', &committed, &actual), ('+', &actual, &committed)]
        .iter()
        .flat_map(|(sign, here, there)| {
            let missing = here.lines().filter(|line| !there.lines().any(|other| other == *line));
            missing.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(
        actual == committed,
        "bindings/api.txt is not what the facade is:\n{}\nIf the change is meant, refresh it:\n\
         cargo build -p tuntrail-ffi && cargo run -p tuntrail-bindgen -- api --library target/debug/libtuntrail_ffi.so \
         > bindings/api.txt",
        changed.join("\n")
    );
    Ok(())
}
