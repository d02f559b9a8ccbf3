extension Tidy {
    /// What a pure target must not say: the tokens, why, and what to do.
    private static let refused: [(patterns: [String], reason: String, replacement: String)] = [
        (
            ["async", "await", "Task {", "Task .", "Task <", "Task (", "TaskGroup", "withTaskGroup", "@MainActor"],
            "the order in which tasks run is not a function of the seed",
            "write a synchronous step that returns effects, and let the shell drive it"
        ),
        (
            [
                "ContinuousClock", "SuspendingClock", "DispatchTime", "Date (", "Date .", "clock_gettime",
                "gettimeofday",
                "usleep", "nanosleep", "Thread . sleep",
            ],
            "a clock of its own makes a run impossible to replay",
            "take `now: Instant` as an argument"
        ),
        (
            [
                "SystemRandomNumberGenerator", "RandomNumberGenerator", ". random (", ". randomElement (",
                ". shuffled (",
                ". shuffle (", "arc4random", "getrandom", "UUID (",
            ],
            "the standard library promises no sequence, so the same seed would mean another run",
            "draw from the PRNG that the caller passes in"
        ),
        (
            ["Hasher", "hashValue"],
            "hashes differ in every process",
            "use ChainHash or CRC32C, or let the compiler write Hashable"
        ),
        (
            ["print (", "debugPrint (", "dump (", "readLine (", "ProcessInfo", "CommandLine", "getenv", "FileManager"],
            "a pure target has no console, no environment and no files",
            "return an event or an effect, and let a program print it"
        ),
    ]

    static let purity = [
        Tidy(promise: "pure targets have no clock, no dice, no tasks and no console") { house in
            house.pureSources.flatMap { file, room in
                eachLine([file]) { file, line, tokens in
                    for (patterns, reason, replacement) in refused {
                        if let found = patterns.first(where: tokens.contains) {
                            let written = found.split(separator: " ").joined()
                            return Finding(
                                file.path, line: line, "`\(written)` in the pure target \(room.name): \(reason)",
                                instead: replacement)
                        }
                    }
                    if declaresActor(tokens) {
                        return Finding(
                            file.path, line: line,
                            "an actor in the pure target \(room.name): its turns are not ours to order",
                            instead: "write a struct with a synchronous step")
                    }
                    return nil
                }
            }
        },
        Tidy(promise: "hash order reaches nothing") { house in
            house.pureSources.flatMap { file, room in
                eachLine([file]) { file, line, tokens in
                    let hashed =
                        tokens.namesDictionaryType || tokens.contains("Dictionary") || tokens.contains("Set <")
                        || tokens.contains("Set (") || tokens.contains(": Set")
                    guard hashed, !isReason(file.explanation(of: line - 1), "hash order:") else { return nil }
                    return Finding(
                        file.path, line: line,
                        "a hashed collection in the pure target \(room.name); its order differs in every process",
                        instead:
                            "keep a sorted array, or say in a comment `// hash order: ` why its order reaches nothing")
                }
            }
        },
    ]

    private static func declaresActor(_ tokens: Tokens) -> Bool {
        tokens.all.indices.dropLast().contains { i in
            tokens.all[i] == "actor" && tokens.all[i + 1].first?.isUppercase == true
        }
    }

    /// True when a comment begins a reason with `mark` and goes on to give one.
    static func isReason(_ comment: String, _ mark: String) -> Bool {
        guard let at = comment.ranges(of: mark).first else { return false }
        return comment[at.upperBound...].contains { $0.isLetter }
    }
}
