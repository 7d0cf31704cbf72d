import javax.inject.Inject
import org.gradle.process.ExecOperations

plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
    `maven-publish`
}

// The Rust workspace that this library is part of.
val repository: Directory = rootProject.layout.projectDirectory.dir("..")

group = "tuntrail"
version = Regex("""(?m)^version = "(.+)"$""").find(repository.file("Cargo.toml").asFile.readText())!!.groupValues[1]

// Of Android 8.0: the oldest with notification channels and foreground services as the VPN service uses them.
val oldestApi = 26

/** @property clang the NDK's name of the target, which is another for 32-bit ARM. */
class Abi(val name: String, val target: String, val clang: String = target)

val abis = listOf(
    Abi("arm64-v8a", "aarch64-linux-android"),
    Abi("armeabi-v7a", "armv7-linux-androideabi", "armv7a-linux-androideabi"),
    Abi("x86_64", "x86_64-linux-android"),
    Abi("x86", "i686-linux-android"),
)

android {
    namespace = "tuntrail.android"
    compileSdk = 35
    ndkVersion = libs.versions.ndk.get()

    defaultConfig {
        minSdk = oldestApi
        consumerProguardFiles("consumer-rules.pro")
    }

    sourceSets {
        getByName("main") {
            // Without Android's classes, so that it runs on any JVM: coroutines, the tunnel's life, routes.
            kotlin.srcDir("src/plain/kotlin")
            kotlin.srcDir(layout.buildDirectory.dir("tuntrail/kotlin"))
            jniLibs.srcDir(layout.buildDirectory.dir("tuntrail/jniLibs"))
            resources.srcDir(layout.buildDirectory.dir("tuntrail/resources"))
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    publishing.singleVariant("release") { withSourcesJar() }
}

kotlin.jvmToolchain(17)

dependencies {
    api(libs.coroutines.core)
    // The bindings' calls into the library, with JNA's own libraries for Android.
    implementation(libs.jna) { artifact { type = "aar" } }
    implementation(libs.androidx.annotation)
    testImplementation(libs.junit)
    testImplementation(libs.robolectric)
}

/** Builds the Rust library for one ABI. Cargo knows what is up to date. */
abstract class CargoBuild @Inject constructor(private val exec: ExecOperations) : DefaultTask() {
    @get:Internal
    abstract val repository: DirectoryProperty

    /** The NDK's compilers and tools. */
    @get:Internal
    abstract val tools: DirectoryProperty

    @get:Input
    abstract val target: Property<String>

    /** Name of the compiler, with the oldest API. */
    @get:Input
    abstract val compiler: Property<String>

    @get:Internal
    abstract val targetFolder: DirectoryProperty

    /** With its symbols, which hold what the bindings are generated from. */
    @get:Internal
    val unstripped: Provider<RegularFile>
        get() = targetFolder.file(target.map { "$it/ship/libtuntrail_ffi.so" })

    /** What ships, without symbols. */
    @get:OutputFile
    abstract val stripped: RegularFileProperty

    init {
        outputs.upToDateWhen { false }
    }

    @TaskAction
    fun build() {
        val windows = System.getProperty("os.name").startsWith("Windows")
        val bin = tools.get().dir("bin").asFile
        val clang = bin.resolve(compiler.get() + if (windows) ".cmd" else "").path
        val target = target.get()
        val name = target.replace('-', '_')
        exec.exec {
            workingDir(repository.get())
            environment("CARGO_TARGET_${name.uppercase()}_LINKER", clang)
            // Devices from Android 15 on may have pages of 16 KB, and load nothing that is aligned for less.
            environment("CARGO_TARGET_${name.uppercase()}_RUSTFLAGS", "-Clink-arg=-Wl,-z,max-page-size=16384")
            // ring and zstd have parts in C.
            environment("CC_$name", clang)
            environment("AR_$name", bin.resolve(if (windows) "llvm-ar.exe" else "llvm-ar").path)
            commandLine(
                // For one crate type: beside the others Cargo leaves out link-time optimisation, which is a megabyte.
                "cargo", "rustc", "--package", "tuntrail-ffi", "--profile", "ship", "--target", target,
                "--target-dir", targetFolder.get().asFile.path, "--crate-type", "cdylib",
            )
        }
        stripped.get().asFile.parentFile.mkdirs()
        exec.exec {
            commandLine(
                bin.resolve(if (windows) "llvm-strip.exe" else "llvm-strip").path,
                "--strip-all", "-o", stripped.get().asFile.path, unstripped.get().asFile.path,
            )
        }
    }
}

/** Runs Cargo in the workspace; what it prints may go to a file. */
abstract class CargoRun @Inject constructor(private val exec: ExecOperations) : DefaultTask() {
    @get:Internal
    abstract val repository: DirectoryProperty

    @get:Input
    abstract val arguments: ListProperty<String>

    @get:Internal
    abstract val output: RegularFileProperty

    init {
        outputs.upToDateWhen { false }
    }

    @TaskAction
    fun run() {
        val printed = output.orNull?.asFile?.apply { parentFile.mkdirs() }?.outputStream()
        exec.exec {
            workingDir(this@CargoRun.repository.get())
            commandLine(listOf("cargo") + arguments.get())
            if (printed != null) standardOutput = printed
        }
        printed?.close()
    }
}

val cargoFolder: Provider<Directory> = layout.buildDirectory.dir("cargo")
val toolsFolder: Provider<Directory> = androidComponents.sdkComponents.ndkDirectory.map {
    val system = System.getProperty("os.name")
    val host = when {
        system.startsWith("Windows") -> "windows-x86_64"
        // Also on Apple silicon: the tools are for both.
        system.startsWith("Mac") -> "darwin-x86_64"
        else -> "linux-x86_64"
    }
    it.dir("toolchains/llvm/prebuilt/$host")
}

val cargoBuilds = abis.map { abi ->
    tasks.register<CargoBuild>("cargoBuild-${abi.name}") {
        group = "rust"
        description = "Builds the Rust library for ${abi.name}."
        repository = project.layout.projectDirectory.dir("../..")
        tools = toolsFolder
        target = abi.target
        compiler = "${abi.clang}$oldestApi-clang"
        targetFolder = cargoFolder
        stripped = layout.buildDirectory.file("tuntrail/jniLibs/${abi.name}/libtuntrail_ffi.so")
    }
}

// All builds have the same interface: one is as good as another.
val generateKotlin = tasks.register<CargoRun>("generateKotlin") {
    group = "rust"
    description = "Writes the Kotlin bindings from the built library."
    val built = cargoBuilds.first()
    dependsOn(built)
    repository = project.layout.projectDirectory.dir("../..")
    arguments = built.flatMap { it.unstripped }.map { library ->
        listOf(
            "run", "--package", "tuntrail-bindgen", "--target-dir", cargoFolder.get().asFile.path, "--",
            "generate", "--library", library.asFile.path, "--language", "kotlin", "--config", "bindings/uniffi.toml",
            "--out", layout.buildDirectory.dir("tuntrail/kotlin").get().asFile.path,
        )
    }
}

// What is linked into the library and under which licence, for an app's list of notices.
val listLicences = tasks.register<CargoRun>("listLicences") {
    group = "rust"
    description = "Lists the crates in the library with their licences."
    repository = project.layout.projectDirectory.dir("../..")
    arguments = listOf(
        "tree", "--package", "tuntrail-ffi", "--target", abis.first().target, "--edges", "normal", "--prefix", "none",
        "--no-dedupe", "--format", "{p}: {l}",
    )
    output = layout.buildDirectory.file("tuntrail/resources/META-INF/tuntrail/crates.txt")
}

val copyLicence = tasks.register<Copy>("copyLicence") {
    from(repository.file("LICENSE"))
    into(layout.buildDirectory.dir("tuntrail/resources/META-INF/tuntrail"))
}

tasks.register("prepare") {
    group = "rust"
    description = "Everything that Cargo makes: libraries, bindings, licences."
    dependsOn(cargoBuilds, generateKotlin, listLicences, copyLicence)
}

// Every variant begins with it.
tasks.named("preBuild") { dependsOn("prepare") }

publishing {
    publications {
        register<MavenPublication>("release") {
            artifactId = "tuntrail-android"
            pom {
                name = "tuntrail"
                description = "A WireGuard tunnel that records connections and uploads them on demand"
                licenses {
                    license {
                        name = "BSD-3-Clause"
                        distribution = "repo"
                    }
                }
            }
            afterEvaluate { from(components["release"]) }
        }
    }
    repositories {
        // `./gradlew publish` makes a repository in a folder, to be copied to where apps find it.
        maven {
            name = "folder"
            url = uri(layout.buildDirectory.dir("repository"))
        }
    }
}
