import Foundation

/// A run of the built `muster`, from its arguments to what it said.
struct MusterRun {
    var status: Int32
    var output: String
    var complaint: String

    /// Runs the binary that lies beside the tests' own bundle. Its output goes to files, so that none can block it.
    init(_ arguments: String...) throws { try self.init(arguments) }

    init(_ arguments: [String], inside: [String] = []) throws {
        let folder = try TemporaryFolder()
        let (out, err) = (folder.file("out"), folder.file("err"))
        for file in [out, err] { try Data().write(to: file) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = inside + [try MusterRun.binary().path] + arguments
        process.standardOutput = try FileHandle(forWritingTo: out)
        process.standardError = try FileHandle(forWritingTo: err)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        status = process.terminationStatus
        output = try String(contentsOf: out, encoding: .utf8)
        complaint = try String(contentsOf: err, encoding: .utf8)
    }

    private struct NotBuilt: Error, CustomStringConvertible {
        let description: String
    }

    static func binary() throws -> URL {
        // The tests run from a bundle in the folder of products, or in a folder of that bundle.
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        var tried: [String] = []
        for _ in 0..<4 {
            folder.deleteLastPathComponent()
            let binary = folder.appendingPathComponent("muster")
            if FileManager.default.isExecutableFile(atPath: binary.path) { return binary }
            tried.append(folder.path)
        }
        throw NotBuilt(description: "there is no muster in \(tried.joined(separator: ", "))")
    }
}

/// What is started with these words before its own ends with the thread that started it, so also with a test that is killed.
enum Leash {
    static let words: [String] =
        FileManager.default.isExecutableFile(atPath: "/usr/bin/setpriv")
        ? ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"] : []
}

/// A folder that is gone when nobody needs it any more.
final class TemporaryFolder {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("muster-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit {
        // What guests said lies in memory; links of their directories lead there.
        let all = FileManager.default.enumerator(atPath: url.path)
        while let name = all?.nextObject() as? String {
            guard name.hasSuffix("/serial.log") else { continue }
            // One that is a file goes with the folder.
            if let place = try? FileManager.default.destinationOfSymbolicLink(atPath: url.path + "/" + name) {
                unlink(place)
            }
        }
        try? FileManager.default.removeItem(at: url)
    }

    func file(_ name: String) -> URL { url.appendingPathComponent(name) }
}
