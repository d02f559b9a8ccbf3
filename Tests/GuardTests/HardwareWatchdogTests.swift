import Foundation
import Testing

/// A real guard, and a file that a preloaded library makes a watchdog.
@Suite(.serialized) struct HardwareWatchdogTests {
    @Test
    func
        `a hardware watchdog is fed with every lease, rests when nothing is left to end, and counts on when its guard dies`()
        throws
    {
        // The program is one that takes any file for a watchdog; the guard becomes it once more on the way.
        let tools = try Tools()
        defer { tools.remove() }
        let ward = try Ward(program: tools.script, watchdog: tools.device)
        defer { ward.end() }
        var device: String { tools.text }
        #expect(ward.wait { ward.linesBegun >= 2 }, "\(ward.log)")
        ward.grant([1: 7])
        let process = try ward.run(1, epoch: 7)
        #expect(ward.wait { device.hasSuffix("time 3\nfed\n") }, "\(device) \(ward.log)")
        let fed = device.count
        #expect(
            ward.wait {
                ward.grant([1: 7])
                return device.count >= fed + 8
            })
        ward.grant([:])
        #expect(ward.wait { !Ward.lives(process) && device.hasSuffix("V") })
        ward.grant([1: 8])
        let next = try ward.run(1, epoch: 8)
        #expect(ward.wait { device.hasSuffix("fed\n") })
        kill(try ward.guardProcess, SIGKILL)
        #expect(ward.wait { !Ward.lives(next) })
        #expect(!device.hasSuffix("V"))

        // What takes no time from it is left alone.
        let plain = try Ward(watchdog: tools.device)
        defer { plain.end() }
        plain.grant([1: 7])
        _ = try plain.run(1, epoch: 7)
        #expect(plain.wait { plain.log.contains("it is no watchdog that can be used") })
    }

    /// A file that a preloaded library makes a watchdog, and a script that runs the guard so.
    private final class Tools {
        let folder: String
        var script: String { folder + "/muster" }
        var device: String { folder + "/watchdog" }
        // A device that is not there yet has been told nothing.
        var text: String { (try? String(contentsOfFile: device, encoding: .utf8)) ?? "" }

        init() throws {
            var template = Array("/tmp/muster-w-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw Ward.Failure(description: "no directory") }
            folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().appendingPathComponent("Tools/watchdog.c").path
            let build = Process()
            build.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            build.arguments = ["clang", "-O1", "-shared", "-fPIC", "-o", folder + "/watchdog.so", source]
            try build.run()
            build.waitUntilExit()
            try Data().write(to: URL(fileURLWithPath: device))
            let words = "#!/bin/sh\nLD_PRELOAD=\(folder)/watchdog.so exec \(try Ward.binary()) \"$@\"\n"
            try Data(words.utf8).write(to: URL(fileURLWithPath: script))
            guard chmod(script, 0o755) == 0, build.terminationStatus == 0 else {
                throw Ward.Failure(description: "no tools")
            }
        }

        func remove() { try? FileManager.default.removeItem(atPath: folder) }  // It is the system's temporary one.
    }
}
