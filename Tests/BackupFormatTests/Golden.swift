import Foundation

/// The bytes of `Proto/golden/<name>.hex`.
func golden(_ name: String, file: String = #filePath) throws -> [UInt8] {
    let root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    let path = root.appendingPathComponent("Proto/golden/\(name).hex")
    let digits = try String(contentsOf: path, encoding: .utf8).filter { !$0.isWhitespace }.map { $0 }
    var bytes: [UInt8] = []
    for i in stride(from: 0, to: digits.count, by: 2) {
        bytes.append(UInt8(String(digits[i..<i + 2]), radix: 16)!)
    }
    return bytes
}
