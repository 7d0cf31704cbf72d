//! What `apple/` ships: compiled as its package says and run against the real library, as far as it needs nothing of Apple's; and
//! all of it, the sample included, checked against stubs of Apple's frameworks (`swift/stubs`). The stubs have the signatures of
//! Apple's documentation, so this proves agreement with that, and no more.

mod apple {
    mod files;
    mod folder;
    mod script;
    mod swift;
}
