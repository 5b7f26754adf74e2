# NixOS: the package and a module that installs emulators at boot. docs/recipes.md says how far this was tried.
#
#   inputs.binfmt.url = "github:binfmt.example/binfmt?dir=deploy/nix";
#   imports = [ binfmt.nixosModules.default ];
#   services.binfmt = { enable = true; platforms = [ "arm64" "riscv64" ]; };
{
  description = "Run programs of other CPU architectures, and see that they do";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        binfmt = pkgs.callPackage ./package.nix { };
        default = binfmt;
      });
      nixosModules.default = import ./module.nix self;
    };
}
