//! Free functions: static methods of one class.

use super::{
    calls::{self, Receiver},
    code::Code,
    config::Config,
    names,
    types::Types,
};
use crate::error::BindgenError;

/// The class with all functions of the component, if it has any.
pub(super) fn class(code: &mut Code, types: Types<'_>, config: &Config) -> Result<(), BindgenError> {
    let functions = types.ci().function_definitions();
    if functions.is_empty() {
        return Ok(());
    }
    code.gap();
    code.line("/// <summary>Functions that belong to no object.</summary>");
    code.open(format!("public static class {}", config.functions_class));
    for function in functions {
        let parameters = calls::parameters(types, &function.arguments())?;
        let result = function.return_type().map_or_else(|| "void".to_owned(), |ty| types.public(ty));
        let name = names::method(function.name(), &config.functions_class);
        code.gap();
        code.lines(calls::documentation(types, function));
        code.open(format!("public static {result} {name}({parameters})"));
        calls::body(code, types, function, &Receiver::None, |result| {
            function.return_type().map(|ty| format!("return {};", types.lift(ty, result))).unwrap_or_default()
        })?;
        code.close();
    }
    code.close();
    Ok(())
}
