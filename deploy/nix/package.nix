# The program, with its man page and completions.
{ lib, rustPlatform }:
let
  manifest = builtins.fromTOML (builtins.readFile ../../Cargo.toml);
in
rustPlatform.buildRustPackage {
  pname = "binfmt";
  inherit (manifest.workspace.package) version;
  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;
  cargoBuildFlags = [ "--package" "binfmt" "--package" "binfmt-package" ];
  # they need namespaces that a build does not have
  doCheck = false;
  postInstall = ''
    "$out/bin/binfmt-package" share
    rm "$out/bin/binfmt-package"
    install -D -m 644 share/binfmt.1 -t "$out/share/man/man1"
    install -D -m 644 share/binfmt.bash "$out/share/bash-completion/completions/binfmt"
    install -D -m 644 share/_binfmt -t "$out/share/zsh/site-functions"
    install -D -m 644 share/binfmt.fish -t "$out/share/fish/vendor_completions.d"
  '';
  meta = {
    description = "Run programs of other CPU architectures, and see that they do";
    license = lib.licenses.mit;
    platforms = [ "x86_64-linux" "aarch64-linux" ];
    mainProgram = "binfmt";
  };
}
