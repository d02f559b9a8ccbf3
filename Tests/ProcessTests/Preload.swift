import Foundation

/// Libraries that change what an agent sees of its machine, made of the C files in `Tools`.
enum Preload {
    static func build(_ name: String, in folder: TemporaryFolder) throws -> URL {
        let library = folder.file("\(name).so")
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Tools/\(name).c")
        let build = Process()
        build.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        build.arguments = ["clang", "-O1", "-shared", "-fPIC", "-o", library.path, source.path, "-ldl"]
        try build.run()
        build.waitUntilExit()
        guard build.terminationStatus == 0 else {
            throw LocalCluster.Failure(description: "clang does not build Tools/\(name).c")
        }
        return library
    }
}
