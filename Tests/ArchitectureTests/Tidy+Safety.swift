extension Tidy {
    static let safety = [
        Tidy(promise: "every pure target compiles with strict memory safety and every target with warnings as errors") {
            house in
            house.rooms.compactMap { room in
                if room.isPure && !room.hasStrictMemorySafety {
                    return Finding(
                        "Package.swift", "\(room.name) is pure and compiles without strict memory safety",
                        instead: "add .strictMemorySafety() to its settings")
                }
                if !room.treatsWarningsAsErrors && !room.isCLibrary {
                    return Finding(
                        "Package.swift", "\(room.name) compiles with warnings that stop nobody",
                        instead: "add .treatAllWarnings(as: .error) to its settings")
                }
                return nil
            }
        },
        Tidy(promise: "no error is turned into a crash") { house in
            eachLine(house.sources) { file, line, tokens in
                if tokens.contains("try !") {
                    return Finding(
                        file.path, line: line, "`try!` ends the process without saying what went wrong",
                        instead: "handle the error, or state the invariant with a precondition and its values")
                }
                if tokens.contains("as !") {
                    return Finding(
                        file.path, line: line, "`as!` ends the process without saying what was there",
                        instead: "bind with `as?` and handle the other case")
                }
                return nil
            }
        },
        Tidy(promise: "a check that matters is still there in a release build") { house in
            eachLine(house.sources) { file, line, tokens in
                tokens.contains("assert (") || tokens.contains("assertionFailure (")
                    ? Finding(
                        file.path, line: line,
                        "`assert` is gone from release builds, which is what runs and is simulated",
                        instead: "use precondition with the values in its message") : nil
            }
        },
        Tidy(promise: "a lost error says why losing it is right") { house in
            eachLine(house.sources) { file, line, tokens in
                tokens.contains("try ?") && file.explanation(of: line - 1).isEmpty
                    ? Finding(
                        file.path, line: line, "`try?` loses the reason of a failure",
                        instead: "handle the error, or say in a comment why its reason does not matter") : nil
            }
        },
        Tidy(promise: "what the compiler cannot prove names its guard") { house in
            eachLine(house.sources) { file, line, tokens in
                let unproven =
                    tokens.contains("@unchecked Sendable") || tokens.contains("nonisolated ( unsafe )")
                    || tokens.contains("@preconcurrency")
                guard unproven, file.lines[line - 1].comment.isEmpty else { return nil }
                return Finding(
                    file.path, line: line, "nothing says what keeps two threads from using this at once",
                    instead: "name the lock or the owning thread in a comment on the same line, or use Guarded")
            }
        },
        Tidy(promise: "unsafe code in a pure target says why it is sound") { house in
            house.pureSources.flatMap { file, room in
                eachLine([file]) { file, line, tokens in
                    guard tokens.all.contains(where: { $0 == "unsafe" || $0.hasPrefix("Unsafe") || $0 == "@unsafe" })
                    else { return nil }
                    // One comment may speak for a run of lines that are all unsafe.
                    var first = line - 1
                    while first > 0, file.lines[first - 1].code.contains("nsafe") { first -= 1 }
                    if !file.explanation(of: first).isEmpty || !file.explanation(of: line - 1).isEmpty { return nil }
                    return Finding(
                        file.path, line: line, "unsafe code in the pure target \(room.name) without its reason",
                        instead: "use Span, or say above it why a safe form will not do and why this use is sound")
                }
            }
        },
    ]
}
