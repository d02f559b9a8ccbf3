import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

// Maintenance of one host after the other, or some at a time: drained, a step of the operator's own, back in service. Whatever goes
// wrong ends it, with no more hosts out of service than were at that time.
//
//     cordoned ─ is there room? ─▶ draining ─▶ maintenance ─ step ─▶ (registered anew) ─ up ─▶ in service ─▶ next
//         │ no                        │ can't leave   │ failed          │ not in time
//         └─▶ in service              └───────────────┴─────────────────┴─▶ stays as it is, and is named

extension FleetClient {
    /// Seconds that a host has to be up before it counts as being there.
    private static let steadyMin = 3

    func maintainHosts() throws -> ExitCode {
        let names = try hostsToMaintain()
        let atOnce = line.integer("at-once") ?? 1
        if line.has("dry-run") { return try showMaintenance(names, atOnce) }
        guard let step = line.text("step"), !step.isEmpty else {
            throw FleetMistake(
                "--step says what is done with a host that is empty; for a shell, with its name as $MUSTER_HOST.")
        }
        var rest = names[...]
        while !rest.isEmpty {
            let wave = Array(rest.prefix(atOnce))
            rest = rest.dropFirst(atOnce)
            do {
                try maintain(wave, step)
            } catch let undone as Undone {
                if !rest.isEmpty {
                    Console.complain("muster: not begun, and in service as before: \(rest.joined(separator: ", "))")
                }
                throw undone
            }
            say("\(names.count - rest.count) of \(names.count) hosts done")
        }
        return .success
    }

    private func say(_ text: String) { Console.write("muster: \(text)\n", to: 2) }

    /// Those that are named, or chosen, in service and up, in the order of their names.
    private func hostsToMaintain() throws -> [String] {
        var named = line.arguments
        let isChosen = line.text("filter") != nil || !line.texts("selector").isEmpty
        if named.isEmpty != isChosen {
            throw FleetMistake("Name hosts, or choose them with --selector or --filter; not both.")
        }
        var query: [(name: String, value: String)] = []
        if isChosen, let filter = try filter() { query.append(("filter", filter)) }
        let hosts = try pages(["v1", "hosts"], query, limit: .max)
        if isChosen { named = hosts.compactMap { $0["name"]?.text }.sorted() }
        if named.isEmpty { throw FleetMistake("No host is so; see `muster host list`.", code: .notFound) }
        for (i, name) in named.enumerated() {
            if named[..<i].contains(name) { throw FleetMistake("\(name) is there twice; name it once.") }
            let host = hosts.first { $0["name"]?.text == name }
            guard let state = host?["state"]?.text else {
                throw FleetMistake("There is no host '\(name)'; see `muster host list`.", code: .notFound)
            }
            if state != "ready" {
                throw Undone("\(name) is \(state), and maintenance begins with hosts that are ready; nothing was done")
            }
        }
        return named
    }

    /// What would leave the first of them, and what can't; of the later ones it can't be said before.
    private func showMaintenance(_ names: [String], _ atOnce: Int) throws -> ExitCode {
        let waves = (names.count + atOnce - 1) / atOnce
        print("\(names.count) hosts in \(waves) waves: \(names.joined(separator: ", "))\n")
        return showPlan(try plan("drain", .string(names[0])))
    }

    private func maintain(_ wave: [String], _ step: String) throws {
        // Nothing goes from one of them to another, and there has to be room elsewhere before anything moves.
        for name in wave { try setDuty(name, "cordon") }
        for name in wave {
            let left = try plan("drain", .string(name))["left"]?.elements ?? []
            guard let vm = left.first else { continue }
            for name in wave { try setDuty(name, "resume") }
            throw Undone(
                "\(name) can't be emptied, and all of \(wave.joined(separator: ", ")) are in service as before: "
                    + "\(vm["vm"]?.text ?? "a VM") stays, since \(vm["text"]?.text ?? "there is no room")"
                    + (left.count > 1 ? "; so do \(left.count - 1) more" : ""))
        }
        for name in wave { try setDuty(name, "drain") }
        for name in wave where try watchDrain(of: name) != .success {
            for other in wave where other != name { try setDuty(other, "resume") }
            throw Undone("\(name) could not be emptied in time; the others of its wave are in service again")
        }
        for (i, name) in wave.enumerated() {
            let before = try newestRegistration(name)
            // An older cluster knows no planned absence, and the host is empty either way.
            let isPlanned = (try? setAway(name)) != nil
            say("\(name): \(step)")
            let status = run(step, host: name)
            let problem =
                status != 0 ? "the step ended with \(status)" : try hostIsAway(name, since: before)
            // One whose agent has begun anew is back already, and one that is not heard is away until its time is over.
            if isPlanned { try? setDuty(name, "back") }
            if let problem {
                for other in wave[(i + 1)...] { try setDuty(other, "resume") }
                throw Undone(
                    "\(name) stays out of service: \(problem); `muster host resume \(name)` takes it back when it is well"
                )
            }
            try setDuty(name, "resume", returnQuery)
            if line.text("return") == "all", try watchReturn(to: name) != .success {
                say("\(name) is in service, and not all that left it is back")
            }
        }
    }

    private func setAway(_ name: String) throws {
        let seconds = (line.duration("back-timeout") ?? .seconds(1_800)).milliseconds / 1_000
        _ = try ask(
            RawRequest(
                .post, ["v1", "hosts", name, "away"], body: .object([JSONMember("seconds", .integer(seconds))])))
    }

    private func setDuty(_ name: String, _ verb: String, _ query: [(name: String, value: String)] = []) throws {
        _ = try ask(RawRequest(.post, ["v1", "hosts", name, verb], query: query))
    }

    /// Its agent's last start, as the cell noted it.
    private func newestRegistration(_ name: String) throws -> String {
        let newest = try get(
            ["v1", "events"],
            [("host", name), ("filter", "kind=host.registered"), ("sort", "-revision"), ("limit", "1")])
        return newest["items"]?.elements?.first?["revision"]?.text ?? ""
    }

    /// Waits until it is up and stays so, and with --restarts until its agent has begun anew; says why that is not so in time.
    private func hostIsAway(_ name: String, since before: String) throws -> String? {
        let limit = line.duration("back-timeout") ?? .seconds(1_800)
        let deadline = SystemClock.now + limit
        var steady = 0
        var why = "it is not up"
        while SystemClock.now < deadline {
            do {
                let isUp = try get(["v1", "hosts", name])["health"]?.text == "up"
                let isNew = try newestRegistration(name) != before || !line.has("restarts")
                steady = isUp && isNew ? steady + 1 : 0
                why = isUp ? "its agent has not begun anew" : "it is not up"
                if steady >= FleetClient.steadyMin { return nil }
            } catch {
                // The host may have led the cell, which has another leader in a moment.
                steady = 0
            }
            sleep(1)
        }
        return "\(why) after \(Quantity.text(limit))"
    }

    /// The operator's own command; what it says goes where this command's words go. Its exit code, or 128 and more for a signal.
    private func run(_ step: String, host: String) -> Int32 {
        let line: [String] = ["/bin/sh", "-c", step]
        var words: [UnsafeMutablePointer<CChar>?] = line.map { strdup($0) }
        words.append(nil)
        setenv("MUSTER_HOST", host, 1)
        defer { for word in words { free(word) } }
        var child = pid_t()
        let result = posix_spawn(&child, "/bin/sh", nil, nil, words, environ)
        guard result == 0 else { return 127 }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
    }
}
