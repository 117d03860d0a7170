"""sluice as a Conan 2 package: the static libraries with their CMake package and, on request, the program.

    conan create conan --profile:all conan/profiles/conancenter --build=missing    libraries from ConanCenter
    conan create conan --profile:all conan/profiles/debian12                       Debian 12's own libraries
"""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load

required_conan_version = ">=2.4"


class SluiceConan(ConanFile):
    name = "sluice"
    description = "Event gateway for Kafka: HTTP in, aggregated exactly once, out as server-sent events"
    license = "BSD-3-Clause"
    topics = ("kafka", "actors", "server-sent-events", "stream-processing")
    package_type = "static-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"program": [True, False]}
    default_options = {
        "program": True,
        "caf/*:with_openssl": False,
        "librdkafka/*:ssl": True,  # also what SCRAM needs
        "librdkafka/*:zlib": True,
        "librdkafka/*:zstd": True,
        "soci/*:with_sqlite3": True,
        "soci/*:with_postgresql": True,
        "sqlite3/*:enable_fts5": True,  # documents are searched by it
        "prometheus-cpp/*:with_pull": False,
        "prometheus-cpp/*:with_push": False,
        "prometheus-cpp/*:with_compression": False,
    }

    @property
    def _root(self):
        return os.path.join(self.recipe_folder, os.pardir)

    def set_version(self):
        self.version = re.search(r"project\(sluice VERSION ([0-9.]+)", load(self, os.path.join(self._root, "CMakeLists.txt")))[1]

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "src/*", "actors/*", "docs/openapi.yaml"):
            copy(self, pattern, src=self._root, dst=self.export_sources_folder)

    def requirements(self):
        # CAF: later releases than 0.18 have another interface.
        self.requires("caf/0.18.6", transitive_headers=True)
        self.requires("librdkafka/2.13.0")
        self.requires("openssl/[>=3 <4]")  # librdkafka's choice
        self.requires("simdjson/3.13.0")
        self.requires("prometheus-cpp/1.3.0")
        self.requires("soci/4.0.3")
        self.requires("sqlite3/[>=3.35 <4]")  # SOCI's, as is the next
        self.requires("libpq/[>=14 <18]")
        self.requires("hiredis/1.2.0")
        self.requires("zlib/[>=1.2.11 <2]")
        self.requires("libcurl/[>=8.6 <9]")
        self.requires("fmt/10.2.1", force=True)  # RESTinio and spdlog ask for different ones
        # Only headers, and in no public one; but the installed CMake package looks for them.
        self.requires("restinio/0.6.19", transitive_headers=True)
        self.requires("nlohmann_json/3.11.3", transitive_headers=True)
        self.requires("spdlog/1.14.1")
        # Only headers, and inside only. toml11: the code is written for 3.x.
        self.requires("cli11/2.4.2", visible=False)
        self.requires("toml11/3.8.1", visible=False)

    def validate(self):
        check_min_cppstd(self, "20")

    def layout(self):
        self.folders.root = os.pardir
        cmake_layout(self, build_folder="build/conan")

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # the project has its own presets
        toolchain.cache_variables["SLUICE_TESTS"] = False
        toolchain.cache_variables["SLUICE_WERROR"] = False  # a user's compiler may warn of what ours does not
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build(target=None if self.options.program else "sluice_program")

    def package(self):
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        cmake = CMake(self)
        cmake.install(component="library")
        if self.options.program:
            cmake.install(component="program")

    def package_info(self):
        # CMake users get the project's own package: it finds Conan's libraries and the system's alike.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.set_property("cmake_file_name", "sluice")
        self.cpp_info.set_property("cmake_target_name", "sluice::sluice")
        # The same for all other generators.
        rooms = {
            "core": ["caf::caf_core"],
            "actors": ["core", "simdjson::simdjson", "nlohmann_json::nlohmann_json"],
            "kafka": ["core", "librdkafka::rdkafka"],
            "http": ["core", "openssl::ssl", "restinio::restinio", "fmt::fmt", "nlohmann_json::nlohmann_json", "zlib::zlib"],
            "delivery": ["core", "libcurl::libcurl", "openssl::ssl", "nlohmann_json::nlohmann_json"],
            "parsing": ["core", "nlohmann_json::nlohmann_json"],
            "store": ["core", "soci::soci", "sqlite3::sqlite3", "libpq::libpq", "hiredis::hiredis", "openssl::crypto"],
            "settings": ["core", "spdlog::spdlog", "nlohmann_json::nlohmann_json"],
            "sluice": ["core", "actors", "kafka", "http", "delivery", "parsing", "store", "prometheus-cpp::prometheus-cpp-core"],
            "program": ["sluice", "settings"],
        }
        for name, requires in rooms.items():
            room = self.cpp_info.components[name]
            room.set_property("cmake_target_name", f"sluice::{name}")
            room.libs = ["sluice_app" if name == "sluice" else f"sluice_{name}"]
            room.requires = requires
            room.builddirs = [os.path.join("lib", "cmake", "sluice")]
        if self.settings.os == "Linux":
            self.cpp_info.components["core"].system_libs = ["pthread"]
