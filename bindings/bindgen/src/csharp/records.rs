//! Records: a class with a property for each field and a converter.
//!
//! The constructor takes the fields without a default; the others are properties with a setter that begin with their
//! default. So a field added later with a default breaks no caller.

use uniffi_bindgen::interface::{AsType, Field, Record};

use super::{calls, code::Code, defaults, docs, names, types::Types};
use crate::error::BindgenError;

/// The public class.
pub(super) fn class(code: &mut Code, types: Types<'_>, record: &Record) -> Result<(), BindgenError> {
    let class = names::upper(record.name());
    code.gap();
    code.lines(docs::summary(record.docstring()));
    code.open(format!("public sealed class {class}"));
    let required: Vec<&Field> =
        record.fields().iter().filter(|field| field.default_value().is_none()).collect();
    for field in record.fields().iter().filter(|field| field.default_value().is_some()) {
        code.line(format!(
            "private {} {} = {};",
            types.public(&field.as_type()),
            store(field),
            default(types, field)?
        ));
    }
    code.gap();
    code.line(format!("/// <summary>Makes a <c>{class}</c> of the values that have no default.</summary>"));
    let parameters: Vec<String> = required
        .iter()
        .map(|field| format!("{} {}", types.public(&field.as_type()), names::lower(field.name())))
        .collect();
    code.open(format!("public {class}({})", parameters.join(", ")));
    for field in &required {
        let name = names::lower(field.name());
        if types.forbids_null(&field.as_type()) {
            code.open(format!("if ({name} == null)"));
            code.line(format!(
                "throw new global::System.ArgumentNullException(\"{}\");",
                name.trim_start_matches('@')
            ));
            code.close();
        }
        code.line(format!("this.{} = {name};", names::property(field.name(), &class)));
    }
    code.close();
    for field in record.fields() {
        property(code, types, &class, field);
    }
    calls::to_string(code, types, record.as_type(), record.uniffi_trait_methods().display_fmt.as_ref())?;
    code.close();
    Ok(())
}

/// The converter.
pub(super) fn codec(code: &mut Code, types: Types<'_>, record: &Record) {
    let class = names::upper(record.name());
    let public = types.global(&class);
    code.gap();
    code.open(format!("internal sealed class {class}Codec : Converter<{public}>"));
    code.line(format!("internal static readonly {class}Codec Instance = new {class}Codec();"));
    code.gap();
    code.open(format!("internal override {public} Read(Reader reader)"));
    for (index, field) in record.fields().iter().enumerate() {
        let ty = field.as_type();
        code.line(format!("{} field{index} = {}.Read(reader);", types.public(&ty), types.codec(&ty)));
    }
    let mut required = Vec::new();
    let mut optional = Vec::new();
    for (index, field) in record.fields().iter().enumerate() {
        match field.default_value() {
            None => required.push(format!("field{index}")),
            Some(_) => optional.push(format!("{} = field{index}", names::property(field.name(), &class))),
        }
    }
    let initialiser =
        if optional.is_empty() { String::new() } else { format!(" {{ {} }}", optional.join(", ")) };
    code.line(format!("return new {public}({}){initialiser};", required.join(", ")));
    code.close();
    code.gap();
    code.open(format!("internal override void Write(Writer writer, {public} value)"));
    code.line("RequireValue(value);");
    for field in record.fields() {
        let property = names::property(field.name(), &class);
        code.line(format!("{}.Write(writer, value.{property});", types.codec(&field.as_type())));
    }
    code.close();
    code.close();
}

fn property(code: &mut Code, types: Types<'_>, class: &str, field: &Field) {
    let ty = field.as_type();
    let name = names::property(field.name(), class);
    code.gap();
    code.lines(docs::summary(field.docstring()));
    if field.default_value().is_none() {
        code.line(format!("public {} {name} {{ get; private set; }}", types.public(&ty)));
        return;
    }
    let store = store(field);
    code.open(format!("public {} {name}", types.public(&ty)));
    code.line(format!("get {{ return this.{store}; }}"));
    if types.forbids_null(&ty) {
        code.open("set");
        code.open("if (value == null)");
        code.line("throw new global::System.ArgumentNullException(\"value\");");
        code.close();
        code.line(format!("this.{store} = value;"));
        code.close();
    } else {
        code.line(format!("set {{ this.{store} = value; }}"));
    }
    code.close();
}

fn default(types: Types<'_>, field: &Field) -> Result<String, BindgenError> {
    let value =
        field.default_value().map(|value| defaults::value(types, &field.as_type(), value)).transpose()?;
    Ok(value.map(|value| value.expression).unwrap_or_default())
}

/// The field behind a property with a setter; no property starts with a small letter.
fn store(field: &Field) -> String {
    names::lower(field.name())
}
