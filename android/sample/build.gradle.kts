plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "tuntrail.sample"
    compileSdk = 35

    defaultConfig {
        applicationId = "tuntrail.sample"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1"
    }

    buildTypes {
        release {
            // So that the library's rules for R8 are in use.
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin.jvmToolchain(17)

dependencies {
    implementation(project(":tuntrail"))
    implementation(libs.coroutines.android)
}
