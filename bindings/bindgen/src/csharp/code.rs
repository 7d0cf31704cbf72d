//! An indenting writer for C# source.

/// C# source as it is written. Blocks are opened and closed in pairs by the caller.
#[derive(Debug, Default)]
pub(super) struct Code {
    text: String,
    depth: usize,
}

impl Code {
    /// A writer whose lines are indented `depth` levels to begin with.
    pub(super) fn at(depth: usize) -> Self {
        Self { text: String::new(), depth }
    }

    /// One line; an empty one gets no indentation.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if !line.is_empty() {
            for _ in 0..self.depth {
                self.text.push_str("    ");
            }
            self.text.push_str(line);
        }
        self.text.push('\n');
    }

    /// A head line and the brace that opens its block.
    pub(super) fn open(&mut self, head: impl AsRef<str>) {
        self.line(head);
        self.open_block();
    }

    /// A brace that opens a block without a head.
    pub(super) fn open_block(&mut self) {
        self.line("{");
        self.depth += 1;
    }

    /// The brace that closes the block.
    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    /// The brace that closes an initialiser.
    pub(super) fn close_statement(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("};");
    }

    /// Several lines, each indented.
    pub(super) fn lines(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.line(line);
        }
    }

    /// An empty line, unless a block has just been opened.
    pub(super) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("{\n") && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}
