import Testing

@Suite struct SourceFileTests {
    private func code(_ text: String) -> [String] {
        SourceFile(path: "A.swift", text: text).lines.map { $0.code.trimmingPrefix { $0.isWhitespace } }.map(
            String.init)
    }

    @Test func `strings are emptied and what is interpolated stays`() {
        #expect(code(#"let a = "x // y" + b"#) == [#"let a = "" + b"#])
        #expect(code(#"f("a \(g(1, (2))) b", c)"#) == [#"f("" g(1, (2)) , c)"#])
        #expect(code(#"f("a \"quoted\" \\", c)"#) == [#"f("", c)"#])
        #expect(code(##"let a = #"raw "text" \(no) \#(yes)"# + b"##) == [#"let a = "" yes  + b"#])
        #expect(
            code("let a = \"\"\"\n  one // \"two\"\n  \\(x)\n  \"\"\" + b")
                == ["let a = \"\"", "", "x ", " + b"].map {
                    String($0.trimmingPrefix { $0.isWhitespace })
                })
    }

    @Test func `comments nest and end where they should`() {
        let file = SourceFile(path: "A.swift", text: "a /* b /* c */ d */ e // f \"g\n/// h\ni")
        #expect(file.lines.map(\.code) == ["a  e ", "", "i"])
        #expect(file.lines[0].comment.contains("f"))
        #expect(file.lines[1].comment == "h")
        #expect(file.lines[1].isComment)
        #expect(file.explanation(of: 2).contains("h"))
    }

    @Test func `a directive is not a string and a quoted name is one word`() {
        #expect(code("#if DEBUG\n#warning(\"x\")\n`it's \"so\"` = 1") == ["#if DEBUG", "#warning(\"\")", "`` = 1"])
    }

    @Test func `an unterminated string ends with its line`() {
        #expect(code("let a = \"oops\nawait f()") == ["let a = \"\"", "await f()"])
    }
}
