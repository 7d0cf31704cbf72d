//! The body of a call into Rust: check the arguments, lower them, call, check the status, lift the result.
//!
//! UniFFI's rule is that whatever is passed belongs to Rust from the moment of the call. Up to that moment it is ours:
//! if lowering the third argument fails, the first two are given back.

use uniffi_bindgen::interface::{Argument, AsType, Callable, FfiType, Method, Type};

use super::{code::Code, defaults, docs, names, types::Types};
use crate::error::BindgenError;

/// What a call is made on.
pub(super) enum Receiver {
    /// Nothing: a function or constructor. The library is checked first.
    None,
    /// The object in the field `handle`, with the class of its codec.
    Object(String),
    /// A record or enum, whose class this is in. The library is checked first: such a value can be made without it.
    Value(Type),
}

/// The parameter list, with defaults for the arguments at the end that have one which C# takes as a constant.
pub(super) fn parameters(types: Types<'_>, arguments: &[&Argument]) -> Result<String, BindgenError> {
    // C# wants optional parameters last, so a default in the middle can't be offered.
    let required =
        arguments.iter().rposition(|argument| argument.default_value().is_none()).map_or(0, |at| at + 1);
    let mut parameters = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        let ty = argument.as_type();
        let mut parameter = format!("{} {}", types.public(&ty), names::lower(argument.name()));
        if let Some(value) = argument.default_value().filter(|_| index >= required) {
            let value = defaults::value(types, &ty, value)?;
            parameter.push_str(" = ");
            parameter.push_str(if value.is_constant { &value.expression } else { "null" });
        }
        parameters.push(parameter);
    }
    Ok(parameters.join(", "))
}

/// Documentation of a callable.
pub(super) fn documentation(types: Types<'_>, callable: &impl Callable) -> Vec<String> {
    let mut lines = docs::summary(Callable::docstring(callable));
    if let Some(error) = callable.throws_type() {
        lines.push(docs::exception(&types.public(error)));
    }
    lines
}

/// Writes the statements of the call; `finish` makes the last one from the raw result, if there is a result.
pub(super) fn body(
    code: &mut Code,
    types: Types<'_>,
    callable: &impl Callable,
    receiver: &Receiver,
    finish: impl FnOnce(&str) -> String,
) -> Result<(), BindgenError> {
    let arguments = callable.arguments();
    fill_in_defaults(code, types, &arguments)?;
    if !matches!(receiver, Receiver::Object(_)) {
        code.line(format!("{}();", types.interop("Library.Require")));
    }
    let mut lowered: Vec<Lowered> = receiver.lower(types).into_iter().collect();
    lowered.extend(arguments.iter().enumerate().map(|(index, argument)| lower(types, index, argument)));

    let result = callable.return_type();
    let native = types.interop(&format!("Native.{}", callable.ffi_func().name()));
    code.line(format!(
        "{status} uniffiStatus = default({status});",
        status = types.interop("RustCallStatus")
    ));
    let passed: Vec<&str> = lowered.iter().map(|lowered| lowered.passed.as_str()).collect();
    let passed: String = passed.iter().map(|passed| format!("{passed}, ")).collect();
    let call = format!("{native}({passed}ref uniffiStatus);");
    let result_type = callable.ffi_func().return_type().map(|ty| types.ffi(ty));
    let owning =
        lowered.iter().filter(|lowered| lowered.before_call.is_some() || lowered.always.is_some()).count();
    let pinned = lowered.iter().any(|lowered| lowered.always.is_some());
    if owning <= 1 && !pinned {
        for lowered in lowered.iter().filter(|lowered| lowered.passed == lowered.variable) {
            code.line(format!("{} {} = {};", lowered.ty, lowered.variable, lowered.value));
        }
        match &result_type {
            Some(ty) => code.line(format!("{ty} uniffiResult = {call}")),
            None => code.line(call),
        }
    } else {
        guarded(code, &lowered, result_type.as_deref(), &call);
    }
    match callable.throws_type() {
        Some(error) => code.line(format!("uniffiStatus.Check({});", types.codec(error))),
        None => code.line("uniffiStatus.Check();"),
    }
    if result.is_some() {
        code.line(finish("uniffiResult"));
    }
    Ok(())
}

impl Receiver {
    /// The first argument at the boundary, if there is a receiver.
    fn lower(&self, types: Types<'_>) -> Option<Lowered> {
        let variable = "uniffiSelf".to_owned();
        let (ty, value, release) = match self {
            Self::None => return None,
            Self::Object(codec) => (
                "ulong".to_owned(),
                "this.handle.Clone()".to_owned(),
                Some(format!("{}({variable});", types.interop(&format!("{codec}.ReleaseHandle")))),
            ),
            Self::Value(ty) => {
                (types.ffi(&FfiType::from(ty)), types.lower(ty, "this"), types.release(ty, &variable))
            }
        };
        Some(Lowered { passed: variable.clone(), variable, ty, value, before_call: release, always: None })
    }
}

/// An argument on its way.
struct Lowered {
    variable: String,
    ty: String,
    value: String,
    passed: String,
    /// Undoes the lowering if the call doesn't happen.
    before_call: Option<String>,
    /// Runs after the call, whatever happened.
    always: Option<String>,
}

fn lower(types: Types<'_>, index: usize, argument: &Argument) -> Lowered {
    let name = names::lower(argument.name());
    let ty = argument.as_type();
    let variable = format!("uniffiArgument{index}");
    if argument.is_borrowed_bytes() {
        let pinned = types.interop("PinnedBytes");
        return Lowered {
            value: format!("new {pinned}({name})"),
            ty: pinned,
            passed: format!("{variable}.Bytes"),
            before_call: None,
            always: Some(format!("{variable}.Release();")),
            variable,
        };
    }
    let value = types.lower(&ty, &name);
    let before_call = types.release(&ty, &variable);
    // What owns nothing can't be lost: it is lowered in the call itself.
    let passed = if before_call.is_some() { variable.clone() } else { value.clone() };
    Lowered { variable, ty: types.ffi_argument(argument), value, passed, before_call, always: None }
}

fn guarded(code: &mut Code, lowered: &[Lowered], result: Option<&str>, call: &str) {
    let owning = || lowered.iter().filter(|one| one.before_call.is_some() || one.always.is_some());
    for one in owning() {
        code.line(format!("{ty} {} = default({ty});", one.variable, ty = one.ty));
    }
    if let Some(ty) = result {
        code.line(format!("{ty} uniffiResult;"));
    }
    let undo: Vec<&String> = lowered.iter().filter_map(|one| one.before_call.as_ref()).collect();
    if !undo.is_empty() {
        code.line("bool uniffiPassed = false;");
    }
    code.open("try");
    for one in owning() {
        code.line(format!("{} = {};", one.variable, one.value));
    }
    if !undo.is_empty() {
        code.line("uniffiPassed = true;");
    }
    code.line(if result.is_some() { format!("uniffiResult = {call}") } else { call.to_owned() });
    code.close();
    code.open("finally");
    if !undo.is_empty() {
        code.open("if (!uniffiPassed)");
        for statement in undo {
            code.line(statement);
        }
        code.close();
    }
    for statement in lowered.iter().filter_map(|one| one.always.as_ref()) {
        code.line(statement);
    }
    code.close();
}

/// Refuses null where Rust has none, or puts in the default that C# can't have as a constant.
fn fill_in_defaults(code: &mut Code, types: Types<'_>, arguments: &[&Argument]) -> Result<(), BindgenError> {
    for argument in arguments {
        let ty: Type = argument.as_type();
        if !types.forbids_null(&ty) {
            continue;
        }
        let name = names::lower(argument.name());
        let value = argument.default_value().map(|value| defaults::value(types, &ty, value)).transpose()?;
        code.open(format!("if ({name} == null)"));
        match value.filter(|value| !value.is_constant) {
            Some(value) => code.line(format!("{name} = {};", value.expression)),
            None => code.line(format!(
                "throw new global::System.ArgumentNullException(\"{}\");",
                name.trim_start_matches('@')
            )),
        }
        code.close();
    }
    Ok(())
}

/// `ToString`, if Rust's `Display` is exported for a record or enum.
pub(super) fn to_string(
    code: &mut Code,
    types: Types<'_>,
    ty: Type,
    display: Option<&Method>,
) -> Result<(), BindgenError> {
    let Some(display) = display else { return Ok(()) };
    code.gap();
    code.line("/// <summary>As Rust prints it.</summary>");
    code.open("public override string ToString()");
    body(code, types, display, &Receiver::Value(ty), |result| {
        format!("return {};", types.lift(&Type::String, result))
    })?;
    code.close();
    Ok(())
}
