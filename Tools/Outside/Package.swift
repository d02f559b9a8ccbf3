// swift-tools-version: 6.2
//
// A package of somebody else's that drives Muster's library products: it sees what they vend and nothing more. Each
// program imports one product. `Tools/check products` builds and runs them.

import PackageDescription

func driver(_ name: String, of product: String) -> Target {
    .executableTarget(
        name: name, dependencies: [.product(name: product, package: "muster")],
        swiftSettings: [
            .treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("MemberImportVisibility"),
        ])
}

let package = Package(
    name: "outside",
    dependencies: [.package(name: "muster", path: "../..")],
    targets: [
        driver("cores", of: "RaftCore"), driver("placing", of: "Placement"), driver("seed", of: "Simulator"),
    ],
    swiftLanguageModes: [.v6])
