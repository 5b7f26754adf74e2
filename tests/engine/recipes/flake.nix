# What deploy/nix amounts to, with stand-ins for what it has of nixpkgs: the version of the package, and the call that the module's
# service makes. Nothing is built.
let
  lib = rec {
    cleanSource = folder: folder;
    concatStringsSep = builtins.concatStringsSep;
    genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    licenses.mit = "MIT";
    literalExpression = text: text;
    mkEnableOption = description: { inherit description; };
    mkIf = condition: content: if condition then content else { };
    mkOption = option: option;
    types = { package = "package"; str = "str"; listOf = type: "list of ${type}"; };
  };
  pkgs = system: {
    callPackage = file: arguments: import file ({
      inherit lib;
      rustPlatform.buildRustPackage = package: package // { outPath = "/store/${package.pname}"; };
    } // arguments);
    pkgsStatic.qemu-user = "/store/qemu-user";
    stdenv.hostPlatform.system = system;
  };
  flake = (import ../../../deploy/nix/flake.nix).outputs {
    self = flake;
    nixpkgs = { inherit lib; legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] pkgs; };
  };
  module = config: flake.nixosModules.default { inherit config lib; pkgs = pkgs "x86_64-linux"; };
  default = name: (module { services.binfmt.enable = false; }).options.services.binfmt.${name}.default;
  service = (module {
    services.binfmt = { enable = true; platforms = [ "arm64" "s390x" ]; package = default "package"; emulators = default "emulators"; };
  }).config.systemd.services.binfmt-install;
in
{
  inherit (flake.packages.aarch64-linux.default) version;
  install = service.serviceConfig.ExecStart;
  emulators = service.environment.QEMU_BINARY_PATH;
}
