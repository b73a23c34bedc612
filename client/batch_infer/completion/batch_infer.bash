# Completion of batch_infer in bash: eval "$(batch_infer -completion bash)"
_batch_infer() {
    local current=${COMP_WORDS[COMP_CWORD]} prefix="" line name
    # Bash breaks words at "=", unless COMP_WORDBREAKS was changed.
    case $current in
        =) current="" ;;
        -*=*) prefix=${current%%=*}= current=${current#*=} ;;
    esac
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files | :folders)
                # compopt is absent from bash 3; then a folder only lacks its slash.
                compopt -o filenames 2>/dev/null
                while IFS= read -r name; do COMPREPLY+=("$prefix$name"); done < <(
                    if [ "$line" = :files ]; then compgen -f -- "$current"; else compgen -d -- "$current"; fi
                )
                ;;
            *=)
                compopt -o nospace 2>/dev/null # its value comes next
                COMPREPLY+=("$prefix$line")
                ;;
            *) COMPREPLY+=("$prefix$line") ;;
        esac
    done < <("${COMP_WORDS[0]}" -complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _batch_infer batch_infer
