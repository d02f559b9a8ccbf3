/// How many histories a test takes: fewer where code is slow.
enum RunLength {
    #if DEBUG
    static let divisor = 5
    #else
    static let divisor = 1
    #endif

    /// `count` histories, or a share of them.
    static func share(of count: Int) -> Int { max(1, count / divisor) }
}
