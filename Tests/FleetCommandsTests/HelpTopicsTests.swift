import CommandSyntax
import Testing

@testable import FleetCommands

@Suite struct HelpTopicsTests {
    private let table = CommandTable(
        program: "muster", about: "",
        options: [
            Option("output", .choice(OutputFormat.allCases.map(\.rawValue)), letter: "o", help: ""),
            Option("address", .text("A"), isRepeated: true, help: ""),
        ], commands: FleetTable.commands, topics: HelpTopics.all)

    @Test func `every topic is found by its name, has examples, and stands in the help`() {
        guard case .help(let all) = table.parse(["help"]) else {
            Issue.record("no help")
            return
        }
        for topic in HelpTopics.all {
            guard case .help(let text) = table.parse(["help", topic.name]) else {
                Issue.record("no help for \(topic.name)")
                continue
            }
            #expect(text.contains(topic.text) && !topic.examples.isEmpty)
            #expect(all.contains("  \(topic.name) "))
        }
        guard case .refused(let sentence) = table.parse(["help", "filtrs"]) else {
            Issue.record("no refusal")
            return
        }
        #expect(sentence.contains("did you mean 'filters'"))
    }

    /// What a shell would make of a line, as far as these lines need it.
    private func words(_ line: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isQuoted = false
        for letter in line {
            if letter == "'" {
                isQuoted.toggle()
            } else if letter == " " && !isQuoted {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.append(letter)
            }
        }
        return words + (word.isEmpty ? [] : [word])
    }

    @Test func `every example of a topic and of a command is a command line`() {
        let lines = HelpTopics.all.flatMap(\.examples).map(\.line) + FleetTable.commands.flatMap(\.examples).map(\.line)
        #expect(lines.count > 60)
        for line in lines where line.hasPrefix("muster ") && !line.contains("||") && !line.contains(">") {
            if case .refused(let sentence) = table.parse(Array(words(line).dropFirst())) {
                Issue.record("\(line): \(sentence)")
            }
        }
    }

    @Test func `every command that users were promised is there`() {
        let promised = """
            vm create, vm list, vm show, vm update, vm stop, vm start, vm restart, vm pause, vm resume, vm delete, vm migrate,
            vm explain, vm history, vm wait, vm console, vm logs, host list, host show, host cordon, host drain, host resume,
            group list, group create, tenant list, tenant set, quota list, quota show, quota set, plan create, plan drain,
            plan loss, plan rebalance, rebalance show, rebalance run, events, top, audit
            """
        for path in promised.split(whereSeparator: { $0 == "," || $0 == "\n" }).map({ $0.drop { $0 == " " } }) {
            #expect(FleetTable.commands.contains { $0.path == path }, "\(path)")
        }
    }
}
