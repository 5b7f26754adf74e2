# services.binfmt: installs emulators at boot, from nixpkgs' static QEMU. Do not set boot.binfmt.emulatedSystems as well: both
# would register the same programs, and the last one wins.
self:
{ config, lib, pkgs, ... }:
let
  cfg = config.services.binfmt;
in
{
  options.services.binfmt = {
    enable = lib.mkEnableOption "QEMU's user emulators, registered at boot and proved to run";
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.binfmt;
      description = "The program.";
    };
    emulators = lib.mkOption {
      type = lib.types.package;
      default = pkgs.pkgsStatic.qemu-user;
      defaultText = lib.literalExpression "pkgs.pkgsStatic.qemu-user";
      description = "The emulators, which must be static: containers have no libraries of the store.";
    };
    platforms = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ "all" ];
      example = [ "arm64" "riscv64" ];
      description = "Platforms, in the words of --install.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    systemd.services.binfmt-install = {
      description = "QEMU's user emulators for programs of other architectures";
      wantedBy = [ "multi-user.target" ];
      after = [ "systemd-binfmt.service" "proc-sys-fs-binfmt_misc.automount" ];
      before = [ "docker.service" "containerd.service" "podman.service" ];
      environment.QEMU_BINARY_PATH = "${cfg.emulators}/bin";
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe cfg.package} --install ${lib.concatStringsSep "," cfg.platforms}";
        ExecStop = "${lib.getExe cfg.package} --uninstall all";
      };
    };
  };
}
